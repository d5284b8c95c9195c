"""What all cells of a (task, defense) know: the model, the fitted defense, and both references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from benchmark.contracts.defense import Edit, FittedDefense, Latents
from benchmark.contracts.example import Example, Goal
from benchmark.contracts.protocol import Protocol
from benchmark.contracts.readout import Criteria
from benchmark.contracts.task import Task
from benchmark.measure.detection import Detector
from benchmark.measure.judging import Judged
from benchmark.model.pack import Pack
from benchmark.model.passes import FullPass, Pass, Weigh, Writes
from benchmark.model.subject import Subject
from benchmark.model.tail import TailPass

NEAR_ZERO = 1e-3
"""Norms of activations up to this share of the residual norm are too small to divide by."""


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

    def embedding_unit(self, vectors: int) -> float:
        """The same for ``vectors`` free embeddings."""
        return self.embedding * vectors**0.5


@dataclass(frozen=True, eq=False)
class Group:
    """What all cells of a (task, defense) share."""

    subject: Subject
    task: Task
    fitted: FittedDefense
    edits: Mapping[int, Edit]
    sites: tuple[int, ...]
    """Boundaries that an attacker of the stream writes to."""
    examples: Sequence[Example]
    base: Judged
    defended: Judged
    eligible: Tensor
    saturation: Tensor
    """(examples,): the undefended objective."""
    scale: Scale
    perturbed: int | Literal["all"]
    suffix_tokens: int
    tail: bool
    """The tail pass equals the full one, so it may be used."""
    tau: float | None
    """Relative drift that swapping one benign prompt for another causes; None: nobody knows."""
    detector: Detector | None = None
    attribution: bool = False
    """Whether recoveries are split into parts that are replayed."""
    protocol: Protocol = field(default_factory=Protocol)
    floor: float | None = None
    """Probability of all choices below which what is read is degenerate; None: nothing is."""
    home: int | None = None
    """Boundary of the suite's own site of the task; None: there is none."""
    together: bool = False
    """Tail passes over prompts of several lengths, run as one, equal each alone."""

    @cached_property
    def at_home(self) -> Group:
        """The same, attacked at the suite's own site alone."""
        assert self.home is not None, "who has no home cannot be attacked there"
        return replace(self, sites=(self.home,))

    @cached_property
    def place(self) -> dict[str, int]:
        """Example id -> index."""
        return {e.id: i for i, e in enumerate(self.examples)}

    @cached_property
    def wrong(self) -> Tensor:
        """(examples,): index of each example's wrong target, one that the defended model does not show already; -1: it
        shows all of them."""
        targets = [self.task.readout.wrong(e, read) for e, read in zip(self.examples, self.defended.read, strict=True)]
        return torch.tensor([-1 if target is None else target for target in targets], dtype=torch.long)

    @cached_property
    def wrong_margins(self) -> list[float] | None:
        """(examples,): margin of each wrong target under the defense, before any attack; None: targets are texts."""
        if self.task.readout.writes_text:
            return None
        found = zip(self.examples, self.defended.read, self.wrong, strict=True)
        return [self._wrong_margin(example, read, target) for example, read, target in found]

    def _wrong_margin(self, example: Example, read: Tensor, target: Tensor) -> float:
        answer = torch.tensor([example.answer])
        criteria = Criteria(answer, target[None].clamp(min=0), torch.full((1,), torch.inf), "wrong")
        return float(self.task.verdict(read[None], criteria).margin)

    @property
    def suppressed(self) -> Tensor:
        """(examples,) bool: eligible, and the defended model does not show the behavior."""
        return self.eligible & ~self.defended.shown

    @property
    def attacked(self) -> list[Example]:
        """The suppressed examples."""
        return [e for e, hit in zip(self.examples, self.suppressed.tolist(), strict=True) if hit]

    def aimed(self, goal: Goal) -> list[Example]:
        """The suppressed examples that have a target for a goal."""
        if goal == "behavior":
            return self.attacked
        return [e for e in self.attacked if self.wrong[self.place[e.id]] >= 0]

    @property
    def drift_floor(self) -> float:
        """L2 norm of activations at or below which nothing is divided by."""
        return NEAR_ZERO * max(self.scale.norms.values())

    def protected_at(self, boundaries: Sequence[int]) -> list[Latents]:
        """The protected feature sets at some boundaries."""
        return [s for s in self.fitted.protected if s.site.boundary in boundaries]

    def protected_from(self, boundary: int) -> list[Latents]:
        """The protected feature sets that a write at ``boundary`` can move."""
        return [s for s in self.fitted.protected if s.site.boundary >= boundary]

    def run(self, pack: Pack, writes: Writes) -> Pass:
        """The pass of a search: of the tail where that may be used, else the full one."""
        if not self.tail:
            return self.full_pass(pack, writes)
        tail = TailPass(self.subject, pack, self.edits, writes)
        tail.weigh = self._weigh
        return tail

    def full_pass(self, pack: Pack, writes: Writes) -> FullPass:
        """The clean pass of the live defended model."""
        return FullPass(self.subject, pack, self.edits, writes, self._weigh)

    @property
    def _weigh(self) -> Weigh | None:
        """Nothing is weighed where there is no floor to hold it against."""
        return None if self.floor is None else self.task.readout.log_mass

    def criteria(self, pack: Pack, goal: Goal) -> Criteria:
        """What an attack with a goal on a pack of the group's examples is judged by."""
        index = [self.place[e.id] for e in pack.examples]
        return replace(pack.judged_by(self.saturation[index], goal, self.wrong[index]), floor=self.floor)
