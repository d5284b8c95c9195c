"""Flags that the rows of one cell raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from leaderboard.doubt.flags import Finding
from leaderboard.doubt.gains import net_gain, significant
from leaderboard.doubt.second_opinions import opinion_findings
from leaderboard.doubt.slopes import slope_findings
from leaderboard.doubt.steering_flags import steering_findings
from leaderboard.rows.arrays import Array, carries, flag, real, text, where
from leaderboard.rows.manifest import Unit
from leaderboard.rows.run import MeasuredCell
from leaderboard.rows.selection import attacked, failed, recovers
from leaderboard.scores.convergence import still_improving
from leaderboard.scores.outcomes import Outcomes, outcomes

UNBOUNDED_SHARE = 0.95


class RowRule(NamedTuple):
    """A flag raised when the share of an attack's rows with some mark passes a limit."""

    code: str
    limit: float
    marked: Callable[[pa.Table], Array]
    """Rows to which of them are marked, (rows,) bool."""
    sentence: str
    """With {share}."""


def _carries(code: str) -> Callable[[pa.Table], Array]:
    return lambda rows: carries(rows, code)


def _near_zero(rows: pa.Table) -> Array:
    return carries(rows, "near-zero-normaliser") | flag(rows, "near_zero")


def _overshot(rows: pa.Table) -> Array:
    return carries(rows, "overshoot") & flag(rows, "recovered")


def _degenerate(rows: pa.Table) -> Array:
    return text(rows, "outcome") == "degenerate"


ROW_RULES = (
    RowRule("zero-gradient", 0.01, _carries("zero-gradient"), "the gradient is zero or not finite in {share} of rows"),
    RowRule(
        "not-converged", 0.1, still_improving, "the attack was still improving when it stopped, in {share} of rows"
    ),
    RowRule(
        "remeasurement-lost",
        0.02,
        _carries("remeasurement-lost"),
        "{share} of rows reached the goal in the optimiser and not on the clean pass",
    ),
    RowRule("degenerate", 0.2, _degenerate, "the attack breaks the model instead, in {share} of rows"),
    RowRule("constraint-violated", 0.0, _carries("constraint-violated"), "{share} of rows break their constraint"),
    RowRule("budget-violated", 0.0, _carries("budget-violated"), "{share} of rows exceed their budget"),
    RowRule(
        "near-zero-normaliser",
        0.05,
        _near_zero,
        "relative drift is undefined in {share} of rows: read the absolute one",
    ),
    RowRule("overshoot", 0.05, _overshot, "{share} of rows go well beyond the undefended model's own margin"),
)


def cell_findings(cell: MeasuredCell) -> Iterator[Finding]:
    """What the rows of one cell raise; of a control only what comes back without any perturbation, and what a wrong
    target says of the defense."""
    rows, plan = cell.rows, cell.plan
    if plan.idle:
        yield from _zero_budget(rows)
    if plan.goal == "wrong":
        yield from steering_findings(rows)
    if plan.attacks:
        yield from _row_findings(attacked(rows))
        yield from _failed(rows)
        yield from _not_monotone(outcomes(rows))
        yield from slope_findings(rows)
        yield from opinion_findings(rows)
        if plan.sanity_budgets:
            yield from _unbounded(rows, cell.threat.unit)


def _row_findings(rows: pa.Table) -> Iterator[Finding]:
    for rule in ROW_RULES if rows.num_rows else ():
        share = float(rule.marked(rows).mean())
        if share > rule.limit:
            yield Finding(rule.code, share, rule.sentence.format(share=f"{share:.1%}"))


def _failed(rows: pa.Table) -> Iterator[Finding]:
    count = failed(rows).num_rows
    if count:
        yield Finding("failed-rows", count, f"{count} rows failed and count as not recovered")


def _not_monotone(worst: Outcomes) -> Iterator[Finding]:
    """The largest fall of the recovered share between two budgets, when it passes two standard errors."""
    falls = [
        net_gain(worst.recovered[:, small], worst.recovered[:, large], worst.clusters)
        for large in range(len(worst.budgets))
        for small in range(large)
    ]
    drop, _ = max((fall for fall in falls if significant(*fall)), default=(0.0, 0.0))
    if drop > 0:
        yield Finding("not-monotone", drop, f"a larger budget recovers {drop:.1%} of the eligible examples less")


def _unbounded(rows: pa.Table, unit: Unit) -> Iterator[Finding]:
    """Success at the largest budget, far beyond the ceiling, among the suppressed examples."""
    beyond = where(rows, flag(rows, "sanity") & flag(rows, "suppressed"))
    if not beyond.num_rows:
        return
    largest = float(real(beyond, "budget_eps").max())
    beyond = where(beyond, real(beyond, "budget_eps") == largest)
    hit = np.unique(text(where(beyond, recovers(beyond)), "example_id"))
    share = len(hit) / len(np.unique(text(beyond, "example_id")))
    if share < UNBOUNDED_SHARE:
        at = f"{largest:.3g} tokens" if unit == "tokens" else f"eps {largest:.3g}"
        yield Finding("unbounded-below-95", share, f"even at {at} only {share:.1%} are recovered")


def _zero_budget(rows: pa.Table) -> Iterator[Finding]:
    """Recoveries of the control that perturbs nothing."""
    recovered = int(outcomes(rows).recovered.any(axis=1).sum())
    if recovered:
        yield Finding("zero-budget-recovers", recovered, f"{recovered} examples come back without any perturbation")
