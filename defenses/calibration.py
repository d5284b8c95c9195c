"""What a defense does to ``fit``, and the smallest strength that does enough of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmark.cells.reference import Retention, eligible, judge
from benchmark.contracts import Example, Task
from benchmark.errors import UsageError
from benchmark.model.edits import Edit
from benchmark.model.subject import Subject
from benchmark.sites import Site

HOPELESS = 0.1
"""Once so much more of the retain set is lost than may be, larger strengths are not tried."""

Edits = Mapping[Site, Edit]


class Outcome(NamedTuple):
    """What edits do to the examples of ``fit``."""

    suppressed: float | None
    """Share of the examples that show the behavior undefended and no longer do; None: none does."""
    retained: float | None
    """Share of the retain set that is kept; None: there is none."""

    @property
    def record(self) -> dict[str, object]:
        return {"suppressed_fit": self.suppressed, "retained_fit": self.retained}


class Trial:
    """Edits tried on ``fit``, against the undefended model, which is asked once."""

    def __init__(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        self.subject, self.task, self.examples = subject, task, examples
        self.retention = Retention(subject, task, task.retain("fit"))
        self.shown = eligible(subject, task, examples, judge(subject, task, examples, {}))

    def __call__(self, edits: Edits) -> Outcome:
        """Judge the examples under ``edits``, all of them live."""
        lost = self.shown & ~judge(self.subject, self.task, self.examples, edits).shown
        share = float(lost.sum() / self.shown.sum()) if self.shown.any() else None
        return Outcome(share, self.retention.kept(edits))


def smallest(
    trial: Trial, build: Callable[[float], Edits], grid: Sequence[float], target_share: float, retain_share: float
) -> tuple[float, Outcome]:
    """The first strength of an ascending ``grid`` that suppresses the target share while the retain set keeps its own;
    if there is none, the one that suppresses most among those that keep it.

    Raises:
        UsageError: no example shows the behavior, or every strength costs too much of the retain set.
    """
    task = trial.task.name
    if not trial.shown.any():
        raise UsageError(f"{trial.subject.name} shows {task} on no `fit` example: nothing to calibrate a defense on")
    best: tuple[float, Outcome] | None = None
    for strength in grid:
        outcome = trial(build(strength))
        share, kept = outcome.suppressed or 0.0, outcome.retained
        if (kept is None or kept >= retain_share) and (best is None or share > (best[1].suppressed or 0.0)):
            best = strength, outcome
        if best is not None and (best[1].suppressed or 0.0) >= target_share:
            break
        if kept is not None and kept < retain_share - HOPELESS:
            break
    if best is None:
        raise UsageError(f"no strength down to {grid[0]} keeps {retain_share:.0%} of the retain set of {task}")
    return best
