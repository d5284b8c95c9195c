"""What threat models share whose attacker adds free vectors to the stream: where they go, and what constrains them.

The harness disposes (``benchmark.threats.campaign``): it brings what an attack proposes back into the constraint and
the budget, and judges it on a clean pass.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from benchmark.contracts.attack import Attack, Terms
from benchmark.contracts.example import Goal
from benchmark.contracts.threat import Threat
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.measure.outcome import Found
from benchmark.measure.remeasure import Measured, remeasure
from benchmark.model.pack import Pack
from benchmark.model.passes import Writes
from benchmark.search.constraint import Constraint, EncoderNullSpace, Free
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from benchmark.threats.campaign import Campaign
from benchmark.threats.problems import make_problem

Where = Sequence[Sequence[tuple[str, ...] | None]]
"""By example and budget, hook names of the sites written to."""
Replayed = list[list[Measured | None]]
"""By example and budget."""
TOLERANCE = 0.03
"""Largest relative drift under the constraint ``jacobian``, as in the study, where the suite's own tau is not less."""
GRID = tuple(round(0.02 * 2 ** (i / 3), 4) for i in range(-9, 20))
"""Candidate ceilings: 0.0025 to 1.6, a third of an octave apart."""


class VectorThreat(Threat):
    """Free vectors at some sites and positions, within one total L2 norm; subclasses say where, and in which unit."""

    @abstractmethod
    def access(self, group: Group, pack: Pack) -> tuple[Pack, Writes]: ...

    @abstractmethod
    def norm(self, group: Group, writes: Writes) -> float:
        """L2 norm of a budget of eps = 1."""

    def check(self, budgets: Sequence[float]) -> None:
        if any(not b > 0 for b in budgets) or list(budgets) != sorted(set(budgets)):
            raise ValueError(f"budgets of {self.name} must be shares above 0, ascending, without repetition")

    @property
    def ceilings(self) -> Sequence[float]:
        return GRID

    def _doubted(self, group: Group, attack: Attack) -> bool:
        """Whether the gradients of an attack are looked at again, and others heard where it fails."""
        return False

    def aim(self, group: Group, constraint: str, goal: Goal, pack: Pack) -> Aim:
        """An attack with a constraint and a goal, aimed at a pack."""
        room, writes = self.access(group, pack)
        criteria = group.criteria(pack, goal)
        tolerance = min(TOLERANCE if group.tau is None else group.tau, TOLERANCE) if constraint == "jacobian" else None
        held = _linear(group, constraint)
        return Aim(pack, room, writes, held, self.norm(group, writes), criteria, tolerance)

    def problem(self, group: Group, terms: Terms, budgets: Sequence[float], pack: Pack, pack_size: PackSize) -> Problem:
        return make_problem(group, self.aim(group, terms.constraint, terms.goal, pack), terms, budgets, pack_size)

    def attack(
        self,
        group: Group,
        attack: Attack,
        budgets: Sequence[float],
        seed: int,
        packs: Sequence[Pack],
        pack_size: PackSize,
    ) -> list[Found]:
        doubted = self._doubted(group, attack)
        return Campaign(self, group, attack, attack.terms(seed), budgets, pack_size, doubted).on(packs)

    def replay(
        self, group: Group, attack: Attack, pack: Pack, proposals: Tensor, where: Where, pack_size: PackSize
    ) -> Replayed:
        return self._replayed(group, attack, pack, proposals, pack_size)

    def _replayed(
        self, group: Group, attack: Attack, pack: Pack, proposals: Tensor, pack_size: PackSize
    ) -> list[list[Measured | None]]:
        """What perturbations (examples, budgets, sites, perturbed, d_model) do."""
        target, levels = self.aim(group, attack.constraint, attack.goal, pack), proposals.shape[1]
        delta = proposals.flatten(0, 1).to(pack.ids.device)
        rows: list[Measured | None] = [*remeasure(group, target, delta, levels, pack_size)]
        return [rows[i : i + levels] for i in range(0, len(rows), levels)]


def _linear(group: Group, constraint: str) -> Constraint:
    if constraint != "encoder":
        return Free()
    return EncoderNullSpace([group.protected_at([b]) for b in group.sites], group.subject.d_model)
