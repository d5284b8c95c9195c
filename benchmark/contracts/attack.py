"""Attacks: optimisers over a problem that hides the model, its hooks and its tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from annotated_types import Interval

from benchmark.contracts.example import Goal

if TYPE_CHECKING:
    from torch import Tensor

WRONG_TARGET = "wrong-target"
"""What an attack with the goal ``wrong`` is called in the results."""


class Attempt(NamedTuple):
    """What an attack proposes; the harness clips, re-measures and judges it."""

    proposal: Tensor
    """A perturbation of every row, (rows, sites, perturbed, d_model), fp32; of typed suffixes the tokens (rows, n)."""
    converged: Tensor
    """(rows,) bool: the search ended by itself, its objective no longer improved, or the goal was reached."""


class Terms(NamedTuple):
    """What an attack asks of a problem."""

    constraint: str
    goal: Goal
    restarts: int
    key: str
    """What the random numbers of a row are seeded from, beside its example."""


@dataclass(frozen=True)
class Attack(ABC):
    """A pure optimiser over a problem. Subclasses are frozen dataclasses, which give defaults and add settings."""

    name: ClassVar[str]
    role: ClassVar[Literal["attack", "control"]] = "attack"
    searches: ClassVar[bool] = True
    """It looks for its goal; else it draws at random, or does nothing."""
    learns: ClassVar[bool] = False
    """It is trained on the suppressed ``fit`` examples before it is run."""
    threat_model: str
    """Name of the threat model: what it may write (``bench list threats``; METHOD section 4)."""
    constraint: Literal["none", "encoder", "jacobian"] = "none"
    """What the defended latents may do: ``none``, anything; ``encoder``, not move at the sites that are written to;
    ``jacobian``, not move anywhere (METHOD section 5)."""
    goal: Goal = "behavior"
    """behavior | wrong: bring the behavior back, or, as a control, reach a matched wrong target."""
    restarts: Annotated[int, Interval(ge=1, le=1_000_000)] = 1
    """Searches an example and budget, the best of which counts."""

    @abstractmethod
    def run(self, problem: Any) -> Attempt:
        """Search in all rows of the threat model's problem within their budgets (``benchmark.search``)."""

    def trained(self, problems: Sequence[Any]) -> Attack:
        """The attack after learning from ``problems``, of suppressed ``fit`` examples with the budgets of ``test``."""
        return self

    def controls(self) -> Sequence[Attack]:
        """What it must beat to mean anything, with the same access and less search; none by default. Itself, aimed at
        the wrong target, is always run beside it."""
        return ()

    def budgets(self, grid: Sequence[float]) -> Sequence[float]:
        """Those of a suite's budgets that it needs, or others; an attack that writes nothing needs one of zero."""
        return grid

    def harder(self, times: int) -> Attack:
        """The same attack with so many times its restarts and, in attacks that take steps, its steps: what it has
        missed, this one may find."""
        return replace(self, restarts=self.restarts * times)

    def terms(self, seed: int) -> Terms:
        """What it asks of a problem in a run with this seed."""
        return Terms(self.constraint, self.goal, self.restarts, f"{seed}|{self.title}")

    @property
    def is_control(self) -> bool:
        """Not an attempt at the behavior: a control by nature, or an attack aimed at a wrong target."""
        return self.role == "control" or self.goal == "wrong"

    @property
    def title(self) -> str:
        """Its name in the results; whatever aims at a wrong target is called after that."""
        return self.name if self.goal == "behavior" else WRONG_TARGET
