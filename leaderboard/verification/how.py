"""What is asked of a verification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class How:
    """What is checked beyond what follows from the rows."""

    replay: bool = False
    """Whether what is stored is replayed on the live defended model."""
    share: float | None = None
    """Of the attacked cells, the part that is attacked again; None: none."""
    times: int = 2
    """Their steps and restarts, as a multiple of the run's."""
    seed: int = 1
    """Of the sample, and of its searches."""
    perturbations: Path | None = None
    """Folder of what is replayed; None: the entry's own, or the run's."""
    allow_code: bool = False
    """A defense that is a Python file may be run."""
    device: str = "auto"
    offline: bool = False
    placed: bool = True
    """The folder lies where an entry lies, which is checked; what was unpacked lies anywhere."""

    @property
    def live(self) -> bool:
        """Whether a model is needed."""
        return self.replay or self.share is not None
