"""What is said about one cell: recovery at each budget, and what the first success of each example took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from leaderboard.attribution import attribution
from leaderboard.families import SCORED_THREATS
from leaderboard.flags import Finding, located
from leaderboard.intervals import estimates
from leaderboard.outcomes import Outcomes, outcomes
from leaderboard.resampling import Resamples
from leaderboard.rows import (
    Array,
    attacked,
    counts,
    first_successes,
    flag,
    known_mean,
    known_median,
    monitored,
    optional,
    ranked,
    real,
    skipped,
    text,
    where,
)
from leaderboard.runs import MeasuredCell, PlannedCell
from leaderboard.schema import BudgetPoint, Cell, Cost, FirstSuccess
from leaderboard.schema import Outcomes as Classes
from leaderboard.values import Estimate, Flag

NOTHING = Estimate(value=None)


def is_scored(cell: PlannedCell) -> bool:
    """Whether the cell's recoveries enter the headline."""
    return cell.attacks and cell.threat_model in SCORED_THREATS


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
        budgets=[] if why else _points(cell, worst, resamples),
        first_success=first_success(cell.rows),
        outcomes=_classes(cell.rows),
        labels=counts(text(attacked(cell.rows), "label_attacked")),
        attribution=attribution(cell.rows, resamples),
        failed_rows=int((text(ranked(cell.rows), "status") == "error").sum()),
        cost=cost([cell.rows]),
        flags=list(flags),
    )


def _points(cell: MeasuredCell, worst: Outcomes, resamples: Resamples) -> list[BudgetPoint]:
    """What happened at exactly each budget, so that a fall stays visible; controls have no selective share."""
    kept, clusters = worst.suppressed, worst.clusters[worst.suppressed]
    recovered, selective, degenerate, undetected = (
        estimates(values[kept], clusters, resamples)
        for values in (worst.recovered, worst.selective, worst.degenerate, worst.undetected)
    )
    counted, watched = cell.plan.role == "attack", monitored(cell.rows)
    return [
        BudgetPoint(
            eps=float(eps),
            recovered=int(worst.recovered[:, column].sum()),
            recovered_share=recovered[column],
            selective=int(worst.selective[:, column].sum()) if counted else None,
            selective_share=selective[column] if counted else NOTHING,
            degenerate=int(worst.degenerate[:, column].sum()),
            degenerate_share=degenerate[column],
            detected_share=detected_share(worst, column, resamples) if watched else NOTHING,
            undetected=int(worst.undetected[:, column].sum()) if watched else None,
            undetected_share=undetected[column] if watched else NOTHING,
        )
        for column, eps in enumerate(worst.budgets)
    ]


def detected_share(worst: Outcomes, column: int | slice, resamples: Resamples) -> Estimate:
    """Share of the examples recovered at the given budgets of which every recovery there was detected."""
    recovered, undetected = (
        np.logical_or.reduce(values[:, column].reshape(len(worst.examples), -1), axis=1)
        for values in (worst.recovered, worst.undetected)
    )
    return estimates(~undetected[recovered][:, None], worst.clusters[recovered], resamples)[0]


def first_success(rows: pa.Table) -> FirstSuccess:
    """Each recovered example at its smallest budget, and there at its smallest perturbation."""
    rows = first_successes(rows)
    near_zero = flag(rows, "near_zero")
    eps = real(rows, "first_success_eps")
    scale = real(rows, "budget_abs") / np.where(real(rows, "budget_eps") > 0, real(rows, "budget_eps"), np.nan)
    return FirstSuccess(
        n=rows.num_rows,
        drift_abs=known_median(real(rows, "first_success_drift")),
        drift_rel=known_median(np.where(near_zero, np.nan, _relative_first_drift(rows))),
        n_near_zero=int(near_zero.sum()),
        min_eps=known_median(optional(rows, "min_eps")),
        delta_eps=known_median(eps),
        delta_norm=known_median(eps * scale),
        reactivated_fraction=known_mean(real(rows, "reactivated_fraction")),
        zero_reactivation=known_mean(real(rows, "zero_reactivation")),
    )


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
