"""Flags that the rows of one cell raise; those that compare cells are in ``comparisons.py``,
those of a fitted defense in ``fit_flags.py``; the page is ``FLAGS.md``.

A flag has an effect: ``ok`` (known, does not touch the score), ``lower-bound-only`` (recovery may be higher than
measured, so the defense may look better than it is) or ``invalid`` (the measurement contradicts itself).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from leaderboard.families import RESIDUAL_THREATS
from leaderboard.outcomes import Outcomes, outcomes
from leaderboard.rows import Array, attacked, carries, flag, ranked, real, text, where
from leaderboard.values import Effect, Flag

CODES: dict[str, Effect] = {
    "zero-gradient": "lower-bound-only",
    "not-converged": "lower-bound-only",
    "remeasurement-lost": "lower-bound-only",
    "failed-rows": "lower-bound-only",
    "not-monotone": "lower-bound-only",
    "unbounded-below-95": "lower-bound-only",
    "weaker-beats-stronger": "lower-bound-only",
    "stochastic": "lower-bound-only",
    "random-beats-gradient": "invalid",
    "zero-budget-recovers": "invalid",
    "constraint-violated": "invalid",
    "budget-violated": "invalid",
    "edit-not-executed": "invalid",
    "near-zero-normaliser": "ok",
    "overshoot": "ok",
    "degenerate": "ok",
    "detects-benign": "ok",
    "few-clusters": "ok",
}
"""Every code, and what it does to the score."""

FEWEST_CLUSTERS = 30
UNBOUNDED_SHARE = 0.95
DEGENERATE_SHARE = 0.2
STANDARD_ERRORS = 2.0


class Finding(NamedTuple):
    """A flag before it knows its place."""

    code: str
    evidence: float
    sentence: str


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


def _still_improving(rows: pa.Table) -> Array:
    return carries(rows, "not-converged") & ~flag(rows, "recovered")


def _near_zero(rows: pa.Table) -> Array:
    return carries(rows, "near-zero-normaliser") | flag(rows, "near_zero")


def _overshot(rows: pa.Table) -> Array:
    return carries(rows, "overshoot") & flag(rows, "recovered")


ROW_RULES = (
    RowRule("zero-gradient", 0.01, _carries("zero-gradient"), "the gradient is zero or not finite in {share} of rows"),
    RowRule(
        "not-converged", 0.1, _still_improving, "the attack was still improving when it stopped, in {share} of rows"
    ),
    RowRule(
        "remeasurement-lost",
        0.02,
        _carries("remeasurement-lost"),
        "{share} of rows reached the goal in the optimiser and not on the clean pass",
    ),
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


def cell_findings(rows: pa.Table, threat_model: str, constraint: str) -> list[Finding]:
    """What the rows of one attack cell raise."""
    worst = outcomes(rows)
    found = [*_row_findings(attacked(rows)), *_failed(ranked(rows)), *_not_monotone(worst), *_degenerate(rows)]
    if constraint == "none" and threat_model in RESIDUAL_THREATS:
        found.extend(_unbounded(rows))
    return found


def _row_findings(rows: pa.Table) -> Iterator[Finding]:
    for rule in ROW_RULES if rows.num_rows else ():
        share = float(rule.marked(rows).mean())
        if share > rule.limit:
            yield Finding(rule.code, share, rule.sentence.format(share=f"{share:.1%}"))


def _failed(rows: pa.Table) -> Iterator[Finding]:
    failed = int((text(rows, "status") == "error").sum())
    if failed:
        yield Finding("failed-rows", failed, f"{failed} rows failed and count as not recovered")


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


def _degenerate(rows: pa.Table) -> Iterator[Finding]:
    outcome = text(attacked(rows), "outcome")
    degenerate, recovered = (int((outcome == name).sum()) for name in ("degenerate", "recovered"))
    if degenerate > DEGENERATE_SHARE * (degenerate + recovered):
        share = degenerate / (degenerate + recovered)
        yield Finding("degenerate", share, f"{share:.1%} of what came back is degenerate")


def _unbounded(rows: pa.Table) -> Iterator[Finding]:
    """Success at the largest budget, far beyond the ceiling, among the suppressed examples."""
    beyond = where(rows, flag(rows, "sanity") & flag(rows, "suppressed"))
    if not beyond.num_rows:
        return
    largest = float(real(beyond, "budget_eps").max())
    beyond = where(beyond, real(beyond, "budget_eps") == largest)
    hit = np.unique(text(where(beyond, flag(beyond, "recovered")), "example_id"))
    share = len(hit) / len(np.unique(text(beyond, "example_id")))
    if share < UNBOUNDED_SHARE:
        yield Finding("unbounded-below-95", share, f"even at eps {largest:.3g} only {share:.1%} are recovered")


def few_clusters(worst: Outcomes) -> Iterator[Finding]:
    """Fewer than 30 clusters of eligible, or (where there are any) of suppressed examples."""
    eligible = len(np.unique(worst.clusters))
    suppressed = len(np.unique(worst.clusters[worst.suppressed]))
    fewest = min(eligible, suppressed or eligible)
    if fewest < FEWEST_CLUSTERS:
        yield Finding("few-clusters", fewest, f"only {fewest} clusters: read the intervals, not the numbers")


def zero_budget(rows: pa.Table) -> Iterator[Finding]:
    """Recoveries of the control that perturbs nothing."""
    recovered = int(outcomes(rows).recovered.any(axis=1).sum())
    if recovered:
        yield Finding("zero-budget-recovers", recovered, f"{recovered} examples come back without any perturbation")


def net_gain(first: Array, second: Array, clusters: Array) -> tuple[float, float]:
    """Share of ``first`` minus share of ``second``, (examples,) bool, and its cluster-robust standard error."""
    if not len(clusters):
        return 0.0, 0.0
    change = first.astype(float) - second.astype(float)
    _, place = np.unique(clusters, return_inverse=True)
    residuals = np.bincount(place, weights=change - change.mean())
    return float(change.mean()), float(np.sqrt(np.square(residuals).sum()) / len(change))


def significant(gain: float, error: float, margin: float = 0.0) -> bool:
    """Whether a gain passes ``margin`` and two standard errors."""
    return gain > margin and gain > STANDARD_ERRORS * error


def located(finding: Finding, place: str, *, scored: bool) -> Flag:
    """The flag of a finding at a place."""
    return Flag(
        code=finding.code,
        effect=CODES[finding.code],
        evidence=finding.evidence if np.isfinite(finding.evidence) else None,
        sentence=finding.sentence,
        where=place,
        scored=scored,
    )
