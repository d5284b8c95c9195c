"""Threat models: what an attacker may write, in which unit, where that applies, and whether it is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from benchmark.contracts.attack import Terms
from benchmark.contracts.task import Task

Unit = Literal["residual", "embedding", "tokens"]
"""Of a budget: a share of the residual norm, a share of the embedding norm, a number of tokens."""

Role = Literal["primary", "baseline", "diagnostic"]
"""primary, baseline: enters the score, the baseline being what a newcomer would try first; diagnostic: shown only."""


class Threat(ABC):
    """A threat model: one instance serves all runs, so it holds no state."""

    name: ClassVar[str]
    unit: ClassVar[Unit]
    role: ClassVar[Role]
    unbounded: ClassVar[bool] = False
    """Without a bound it can do anything, so that an attack which fails at ten times the largest budget is no test."""
    reaches_less_than: ClassVar[str | None] = None
    """Name of a threat model that can do all that this one can, at equal budgets."""
    undefended: ClassVar[str | None] = None
    """Name of the threat model that it is where there is no defense; None: itself."""

    @abstractmethod
    def applies(self, task: Task, defended: Any = None) -> str | None:
        """Why it cannot be tried on a task, or under a fitted defense (``benchmark.measure.group.Group``); None: it
        can."""

    @abstractmethod
    def check(self, budgets: Sequence[float]) -> None:
        """Whether these can be budgets.

        Raises:
            ValueError: they cannot; the message says why.
        """

    @property
    @abstractmethod
    def ceilings(self) -> Sequence[float]:
        """Budgets at which it is tried whether an undefended model is steered to a wrong target, ascending."""

    @abstractmethod
    def access(self, group: Any, pack: Any) -> Any:
        """Where vectors are written: the pack with room for them, and the ``Writes``; None: it writes none.

        Args:
            group: ``benchmark.measure.group.Group``.
            pack: ``benchmark.model.pack.Pack``.
        """

    @abstractmethod
    def attack(
        self, group: Any, attack: Any, budgets: Sequence[float], seed: int, packs: Sequence[Any], pack_size: Any
    ) -> list[Any]:
        """Search on every example of some packs at every budget, and measure again what was found, on a clean pass.

        Returns:
            Of every pack ``benchmark.measure.outcome.Found``: what was measured by example and budget, and the
            proposals.
        """

    @abstractmethod
    def replay(self, group: Any, attack: Any, pack: Any, proposals: Any, where: Any, pack_size: Any) -> Any:
        """Measure once more what an attack found on the examples of a pack, on a clean pass, without any search.

        Args:
            proposals: (examples, budgets, ...), as ``attack`` gave them.
            where: by example and budget, hook names of the sites written to; None: no stream was.

        Returns:
            By example and budget, ``benchmark.measure.remeasure.Measured``; None: it was written nowhere that the
            attack may write.
        """

    @abstractmethod
    def problem(self, group: Any, terms: Terms, budgets: Sequence[float], pack: Any, pack_size: Any) -> Any:
        """What an attack gets of a pack at ``budgets``, for training."""

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` says of it, so that scores are made without switching on names."""
        return {"unit": self.unit, "role": self.role, "reaches_less_than": self.reaches_less_than}
