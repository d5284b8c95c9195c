"""What is said about one cell: recovery at each budget, and what the first success of each example took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from leaderboard.flags import Finding, located
from leaderboard.intervals import estimates
from leaderboard.outcomes import Outcomes, outcomes
from leaderboard.resampling import Resamples
from leaderboard.rows import Array, flag, ranked, real, skipped, text, where
from leaderboard.runs import MeasuredCell, PlannedCell
from leaderboard.schema import BudgetPoint, Cell, Cost, FirstSuccess
from leaderboard.schema import Outcomes as Classes
from leaderboard.values import Estimate, Flag

SCORED = frozenset({"before_edit", "soft_suffix", "token_suffix"})
"""Threat models that the headline is made of."""


def is_scored(cell: PlannedCell) -> bool:
    """Whether the cell's recoveries enter the headline."""
    return cell.attacks and cell.threat_model in SCORED


def cell_flag(cell: PlannedCell, finding: Finding) -> Flag:
    """The flag of a finding about a cell."""
    return located(finding, f"{cell.task}: {cell}", scored=is_scored(cell))


def cell_statistics(cell: MeasuredCell, resamples: Resamples, flags: Sequence[Flag] = ()) -> Cell:
    """All numbers of one cell; seeds count as their worst case."""
    plan, worst, why = cell.plan, outcomes(cell.rows), skipped(cell.rows)
    return Cell(
        key=plan.key,
        attack=plan.attack,
        threat_model=plan.threat_model,
        constraint=plan.constraint,
        goal=plan.goal,
        role=plan.role,
        eligible=len(worst.examples),
        suppressed=int(worst.suppressed.sum()),
        clusters=len(np.unique(worst.clusters[worst.suppressed])),
        skipped=why,
        budgets=[] if why else _budget_points(worst, resamples, selective=plan.role == "attack"),
        first_success=first_success(cell.rows),
        outcomes=_classes(cell.rows),
        failed_rows=int((text(ranked(cell.rows), "status") == "error").sum()),
        cost=cost([cell.rows]),
        flags=list(flags),
    )


def _budget_points(worst: Outcomes, resamples: Resamples, *, selective: bool) -> list[BudgetPoint]:
    """Recovery at exactly each budget, so that a fall stays visible; controls have no selective share."""
    kept, clusters = worst.suppressed, worst.clusters[worst.suppressed]
    raw = estimates(worst.recovered[kept], clusters, resamples)
    strict = estimates(worst.selective[kept], clusters, resamples)
    return [
        BudgetPoint(
            eps=float(eps),
            recovered=int(worst.recovered[:, column].sum()),
            recovered_share=raw[column],
            selective=int(worst.selective[:, column].sum()) if selective else None,
            selective_share=strict[column] if selective else Estimate(value=None),
        )
        for column, eps in enumerate(worst.budgets)
    ]


def first_success(rows: pa.Table) -> FirstSuccess:
    """Each recovered example at its smallest budget, and there at its smallest perturbation."""
    rows = _first_rows(rows)
    near_zero = flag(rows, "near_zero")
    eps = real(rows, "first_success_eps")
    scale = real(rows, "budget_abs") / np.where(real(rows, "budget_eps") > 0, real(rows, "budget_eps"), np.nan)
    return FirstSuccess(
        n=rows.num_rows,
        drift_abs=_median(real(rows, "first_success_drift")),
        drift_rel=_median(np.where(near_zero, np.nan, _relative_first_drift(rows))),
        n_near_zero=int(near_zero.sum()),
        delta_eps=_median(eps),
        delta_norm=_median(eps * scale),
        reactivated_fraction=_mean(real(rows, "reactivated_fraction")),
        zero_reactivation=_mean(real(rows, "zero_reactivation")),
    )


def _first_rows(rows: pa.Table) -> pa.Table:
    kept = ranked(rows)
    kept = where(kept, flag(kept, "recovered"))
    order = np.lexsort((real(kept, "seed"), real(kept, "first_success_eps"), real(kept, "budget_eps")))
    _, first = np.unique(text(kept, "example_id")[order], return_index=True)
    return kept.take(pa.array(order[first], type=pa.int64()))


def _relative_first_drift(rows: pa.Table) -> Array:
    """The first success's drift over the norm by which the re-measured drift was divided."""
    drift, relative, first = (real(rows, name) for name in ("drift_abs", "drift_rel", "first_success_drift"))
    return np.divide(first * relative, drift, out=np.where(first == 0, 0.0, relative), where=drift > 0)


def _classes(rows: pa.Table) -> Classes:
    """Each eligible example once: what it was at the largest ranked budget, the worst over seeds."""
    kept = ranked(rows)
    largest = where(kept, real(kept, "budget_eps") == real(kept, "budget_eps").max(initial=-np.inf))
    by_example = dict.fromkeys(text(largest, "example_id"), "")
    found = list(zip(text(largest, "example_id"), text(largest, "outcome"), strict=True))
    for outcome in ("never_suppressed", "held", "degenerate", "recovered"):
        by_example.update({example: outcome for example, said in found if said == outcome})
    classes = list(by_example.values())
    return Classes(**{name: classes.count(name) for name in Classes.model_fields})


def cost(tables: Sequence[pa.Table]) -> Cost:
    """What all rows together spent, sanity budgets included."""
    spent = {
        name: sum(float(np.nansum(real(rows, name))) for rows in tables)
        for name in ("forwards", "backwards", "seconds")
    }
    return Cost(forwards=int(spent["forwards"]), backwards=int(spent["backwards"]), seconds=spent["seconds"])


def _median(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def _mean(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
