"""Wrong targets under the defense, beside the same on the undefended model: a diagnostic, never ranked (METHOD 8).

Steering is not recovery. Where a wrong answer is in reach more cheaply under a defense than without it, the defense
moves the model to wrong answers; where all of them are there before any attack, they are planted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmark.contracts.row import TARGET_SHOWN
from leaderboard.rows.arrays import Array, optional, real, text, where
from leaderboard.rows.run import MeasuredCell
from leaderboard.rows.selection import ROUNDING, ranked, skipped
from leaderboard.scores.intervals import estimates
from leaderboard.scores.outcomes import outcomes
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.values import NOTHING, Estimate, Strict


class SteeredPoint(Strict):
    """Shares of the suppressed examples that reach a wrong target at a budget or below it."""

    budget: float
    """In the unit of the threat model."""
    defended: Estimate
    undefended: Estimate
    """The same examples on the undefended model; value null: that was not measured."""


class Steerability(Strict):
    """How easily a wrong target is reached under the defense."""

    suppressed: int
    shown: Estimate
    """Share of the suppressed examples for which the defended model shows every wrong target before any attack; those
    are not attacked, and do not count as reached."""
    budgets: list[SteeredPoint]
    eps_per_margin_true: float | None
    """Median over the suppressed examples of the budget at which the behavior came back, per unit of the margin that
    was to be made up; null: more than half did not come back."""
    eps_per_margin_wrong: float | None
    """The same of the wrong target, over the examples that were aimed at one."""


@dataclass(frozen=True)
class Steering:
    """What a search for wrong targets did to each suppressed example."""

    examples: Array
    """Ids, (examples,)."""
    clusters: Array
    """(examples,)."""
    shown: Array
    """Every wrong target is there before any attack, (examples,) bool."""
    budgets: Array
    """Ranked ones, ascending, (budgets,)."""
    defended: Array
    """A wrong target is reached at this budget or below it, (examples, budgets) bool."""
    undefended: Array | None
    """The same without the defense; null: not measured."""


def steering(rows: pa.Table) -> Steering:
    """The rows of one or more cells that aim at wrong targets, by suppressed example."""
    worst = outcomes(rows)
    kept, limits = worst.suppressed, worst.budgets * ROUNDING
    examples = worst.examples[kept]
    gone = text(where(rows, text(rows, "error") == TARGET_SHOWN), "example_id")
    ids, reference = text(rows, "example_id"), real(rows, "eps_star_wrong")
    known = dict(zip(ids, np.nan_to_num(reference, nan=np.inf), strict=True))
    stars = np.array([known[example] for example in examples], dtype=float)
    return Steering(
        examples=examples,
        clusters=worst.clusters[kept],
        shown=np.isin(examples, gone),
        budgets=worst.budgets,
        defended=(worst.first_budgets(selective=False)[:, None] <= limits)[kept],
        undefended=stars[:, None] <= limits if worst.compared else None,
    )


def steerabilities(cells: Sequence[MeasuredCell], resamples: Resamples) -> dict[str, Steerability]:
    """By scored threat model, where wrong targets were aimed at and something was suppressed."""
    wrong = [c for c in cells if c.plan.goal == "wrong" and c.threat.scored and _tells(c.rows)]
    names = dict.fromkeys(cell.plan.threat_model for cell in wrong)
    found = {name: _steerability(name, cells, wrong, resamples) for name in names}
    return {name: one for name, one in found.items() if one.suppressed}


def _tells(rows: pa.Table) -> bool:
    """Whether the search applied to the defense; that all its targets are shown already says something too."""
    return skipped(rows) in (None, TARGET_SHOWN)


def _steerability(
    name: str, cells: Sequence[MeasuredCell], wrong: Sequence[MeasuredCell], resamples: Resamples
) -> Steerability:
    aimed = pa.concat_tables([cell.rows for cell in wrong if cell.plan.threat_model == name])
    true = [c.rows for c in cells if c.plan.attacks and c.plan.threat_model == name and c.plan.constraint == "none"]
    one = steering(aimed)
    without = None if one.undefended is None else estimates(one.undefended, one.clusters, resamples)
    defended = estimates(one.defended, one.clusters, resamples)
    return Steerability(
        suppressed=len(one.examples),
        shown=estimates(one.shown[:, None], one.clusters, resamples)[0],
        budgets=[
            SteeredPoint(budget=float(b), defended=defended[i], undefended=without[i] if without else NOTHING)
            for i, b in enumerate(one.budgets)
        ],
        eps_per_margin_true=_per_margin(pa.concat_tables(true)) if true else None,
        eps_per_margin_wrong=_per_margin(aimed),
    )


def _per_margin(rows: pa.Table) -> float | None:
    """Median over examples of the smallest budget that was enough per unit of margin; null: not half were reached, or
    the margin is not known."""
    kept = ranked(rows)
    gap = -optional(kept, "margin_start")
    kept, gap = where(kept, gap > 0), gap[gap > 0]
    if not kept.num_rows:
        return None
    cost = np.nan_to_num(real(kept, "eps_star"), nan=np.inf) / gap
    names, line = np.unique(text(kept, "example_id"), return_inverse=True)
    least = np.full(len(names), np.inf)
    np.minimum.at(least, line, cost)
    middle = np.sort(least)[len(least) // 2]
    return float(middle) if np.isfinite(middle) else None
