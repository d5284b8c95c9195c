"""Rows, made whole: what became of an example at every budget (METHOD sections 2 and 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from benchmark.contracts.example import Goal
from benchmark.contracts.row import Attribution, Cost, Identity, Margins, Outcome, Row, Slopes, Written
from benchmark.measure.group import Group
from benchmark.measure.judging import DEGENERATE
from benchmark.measure.remeasure import VIOLATION, Measured

OVERSHOT = 0.5
"""Margin beyond the undefended one, in units of that, from which on a row is flagged."""


class Attacked(NamedTuple):
    """What an attack did to one example at one budget."""

    measured: Measured
    budget: float
    """In units of ``Written.budget_abs``."""
    cost: Cost
    flags: tuple[str, ...]
    min_eps: float | None = None
    """In units of the budget; None: not looked for, or the goal is not reached."""
    attribution: Attribution | None = None
    slopes: Slopes | None = None
    """None: the row was not sampled."""
    found_by: str | None = None
    written_sites: tuple[str, ...] | None = None

    @property
    def written(self) -> Written:
        m = self.measured
        first = m.size.eps if m.recovered else None  # a search stops at its first success
        return Written(
            budget_abs=self.budget,
            delta_eps=m.size.eps,
            delta_norm=m.size.norm,
            delta_site_norms=m.size.sites,
            first_success_eps=first,
            first_success_drift=m.drift.drift_abs if m.recovered and m.drift else None,
            min_eps=self.min_eps,
            found_by=self.found_by,
            written_sites=self.written_sites,
        )


class Found(NamedTuple):
    """What an attack did to the examples of a pack."""

    attacked: list[list[Attacked]]
    """By example and budget."""
    proposals: Tensor
    """(examples, budgets, ...) on the CPU: perturbations, or token ids filled up with -1."""


class Left(NamedTuple):
    """Why an example was not attacked."""

    status: str
    error: str | None
    """None: there was nothing to attack."""


def make_rows(
    group: Group, example: int, identities: Sequence[Identity], found: Sequence[Attacked] | Left
) -> list[Row]:
    """The rows of one example, one a budget."""
    if isinstance(found, Left):
        return [_left(group, example, identity, found) for identity in identities]
    pairs = list(zip(identities, found, strict=True))
    reached = [i.budget_eps for i, a in pairs if a.measured.recovered and not i.sanity]
    star = min(reached, default=None)
    return [_row(group, example, *pair, star) for pair in pairs]


def _left(group: Group, i: int, identity: Identity, why: Left) -> Row:
    eligible, suppressed = bool(group.eligible[i]), bool(group.suppressed[i])
    failed = suppressed and why.error is not None
    named = ("held" if suppressed else "never_suppressed") if eligible and not failed else None
    outcome = Outcome(
        eligible=eligible,
        suppressed=suppressed,
        recovered=False if suppressed else None,
        outcome=named,
        label_base=group.base.labels[i],
        label_defended=group.defended.labels[i],
        status=why.status,
        error=why.error,
    )
    return Row(identity=identity, outcome=outcome, margins=margins(group, i, None, "behavior"))


def _row(group: Group, i: int, identity: Identity, attacked: Attacked, star: float | None) -> Row:
    m = attacked.measured
    outcome = Outcome(
        eligible=True,
        suppressed=True,
        recovered=m.recovered,
        outcome=_named(m),
        label_base=group.base.labels[i],
        label_defended=group.defended.labels[i],
        label_attacked=m.label,
        eps_star=star,
        flags=attacked.flags,
        status="ok",
    )
    goal: Goal = "wrong" if identity.goal == "wrong" else "behavior"
    return Row(
        identity=identity,
        outcome=outcome,
        margins=margins(group, i, m.margin, goal),
        drift=m.drift,
        written=attacked.written,
        slopes=attacked.slopes,
        cost=attacked.cost,
        detection=m.detection,
        attribution=attacked.attribution,
        extra=m.extra,
    )


def _named(m: Measured) -> str:
    if m.recovered:
        return "recovered"
    return DEGENERATE if m.broken or (m.label == DEGENERATE and not m.margin > 0) else "held"


def margins(group: Group, i: int, attacked: float | None, goal: Goal) -> Margins:
    """How clearly the behavior is shown by an example; what compares with the behavior's own margin is null for a wrong
    target, which has another one."""
    base, defended = float(group.base.margin[i]), float(group.defended.margin[i])
    if attacked is None:
        return Margins(margin_base=base, margin_defended=defended)
    if goal == "wrong":
        start = None if group.wrong_margins is None else group.wrong_margins[i]
        return Margins(margin_base=base, margin_defended=defended, margin_start=start, margin_attacked=attacked)
    lost = base - defended
    return Margins(
        margin_base=base,
        margin_defended=defended,
        margin_start=None if group.task.readout.writes_text else defended,
        margin_attacked=attacked,
        recovered_fraction=min(max((attacked - defended) / lost, 0.0), 1.0) if lost > 0 else None,
        overshoot=max(attacked - base, 0.0) / abs(base) if base else None,
    )


LOST = "remeasurement-lost"
"""Reached in the search, and not on the clean pass; a text does not even begin as the search saw it begin."""


def flags(
    measured: Measured, margins: Margins, budget: float, reached: bool, doubts: Mapping[str, bool]
) -> tuple[str, ...]:
    """Codes of what is doubtful about a measured row.

    Args:
        budget: that the search had, as a norm like ``measured.size.norm``.
        reached: the optimiser saw the goal reached.
        doubts: codes about the search, which matter where it failed.
    """
    raised = {
        **{code: on and not measured.recovered for code, on in doubts.items()},
        "constraint-violated": measured.violation > VIOLATION,
        "budget-violated": measured.size.norm > budget * (1 + 1e-4) + 1e-9,
        LOST: reached and not (measured.recovered or measured.begun or measured.broken),
        "overshoot": (margins.overshoot or 0.0) > OVERSHOT,
        "near-zero-normaliser": measured.drift is not None and measured.drift.near_zero,
    }
    return tuple(code for code, on in raised.items() if on)
