"""What all cells of a (task, defense) know: the model, the fitted defense, and both references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from benchmark.cells.detection import Detector
from benchmark.cells.reference import Judged
from benchmark.contracts import Continuation, Example, FittedDefense, Probe, Task
from benchmark.model.edits import Edit
from benchmark.model.passes import Writes
from benchmark.model.subject import Subject
from benchmark.protocol import STRICT, Protocol
from benchmark.sae.features import FeatureSet


@dataclass(frozen=True)
class Scale:
    """What a budget of eps = 1 is."""

    norms: Mapping[int, float]
    """Boundary -> median residual norm of a readout position."""
    embedding: float

    def unit(self, writes: Writes) -> float:
        """L2 norm of eps = 1: over all sites and positions together."""
        square = sum(self.norms[b] ** 2 for b in writes.boundaries)
        return (square * writes.width) ** 0.5

    def suffix_unit(self, tokens: int) -> float:
        """The same for a suffix of free embeddings."""
        return self.embedding * tokens**0.5


@dataclass(frozen=True, eq=False)
class Group:
    """What all cells of a (task, defense) share."""

    subject: Subject
    task: Task
    fitted: FittedDefense
    edits: Mapping[int, Edit]
    sites: tuple[int, ...]
    """Boundaries that a residual attacker writes to."""
    examples: Sequence[Example]
    base: Judged
    defended: Judged
    eligible: Tensor
    ceiling: Tensor
    """(examples,): the undefended objective."""
    scale: Scale
    perturbed: int | Literal["all"]
    suffix_tokens: int
    restart: bool
    """The restarted pass equals the full one, so it may be used."""
    tau: float
    """Relative drift that swapping one benign prompt for another causes."""
    detector: Detector | None = None
    attribution: bool = False
    """Whether recoveries are split into parts that are replayed."""
    protocol: Protocol = STRICT

    @cached_property
    def place(self) -> dict[str, int]:
        """Example id -> index."""
        return {e.id: i for i, e in enumerate(self.examples)}

    @cached_property
    def wrong(self) -> Tensor:
        """(examples,): index of each example's wrong target, one that the defended model does not show already."""
        if isinstance(self.task.readout, Continuation):
            return torch.zeros(len(self.examples), dtype=torch.long)  # the wrong target is a text
        open_ = [self._not_shown(e, read) for e, read in zip(self.examples, self.defended.read, strict=True)]
        return torch.tensor(open_)

    def _not_shown(self, example: Example, read: Tensor) -> int:
        shown = {int(read.argmax())}
        if isinstance(self.task.readout, Probe):  # each class by itself
            shown = set((read > 0).nonzero()[:, 0].tolist())
        return next((w for w in example.wrong if w not in shown), example.wrong[0])

    @property
    def suppressed(self) -> Tensor:
        """(examples,) bool: eligible, and the defended model does not show the behavior."""
        return self.eligible & ~self.defended.shown

    def protected_at(self, boundaries: Sequence[int]) -> list[FeatureSet]:
        """The protected feature sets at some boundaries."""
        return [s for s in self.fitted.protected if s.site.boundary in boundaries]

    def protected_from(self, boundary: int) -> list[FeatureSet]:
        """The protected feature sets that a write at ``boundary`` can move."""
        return [s for s in self.fitted.protected if s.site.boundary >= boundary]
