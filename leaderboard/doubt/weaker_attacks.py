"""Flags that compare cells of one task and defense: an attack with more freedom must not do worse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from leaderboard.doubt.flags import Finding
from leaderboard.doubt.gains import net_gain, significant
from leaderboard.rows.arrays import Array
from leaderboard.rows.plan import PlannedCell
from leaderboard.rows.run import MeasuredCell
from leaderboard.rows.selection import skipped
from leaderboard.scores.outcomes import Outcomes, outcomes

MARGIN = 0.02
"""A weaker attack must win by more than this share of the eligible examples, and by two standard errors."""
FREEDOM = {"none": 2, "encoder": 1, "jacobian": 0}
"""Constraints by what they leave free: ``encoder`` holds each perturbed site by itself, ``jacobian`` later ones too."""

Matches = Callable[[MeasuredCell, MeasuredCell], bool]


def comparison_findings(cells: Sequence[MeasuredCell]) -> list[tuple[PlannedCell, Finding]]:
    """What pairs of cells raise, each with the cell whose attack turned out too weak."""
    attacks = [cell for cell in cells if cell.plan.attacks and not skipped(cell.rows)]
    blind = [cell for cell in cells if cell.plan.blind]
    return [
        *_beaten("random-beats-gradient", blind, attacks, _same_access),
        *_beaten("weaker-beats-stronger", attacks, attacks, _has_less),
    ]


def _same_access(weak: MeasuredCell, strong: MeasuredCell) -> bool:
    return (weak.plan.threat_model, weak.plan.constraint) == (strong.plan.threat_model, strong.plan.constraint)


def _has_less(weak: MeasuredCell, strong: MeasuredCell) -> bool:
    """Whatever the weak one may do, the strong one may, at equal budgets."""
    if weak.plan.threat_model == strong.plan.threat_model:
        return FREEDOM.get(weak.plan.constraint, 1) < FREEDOM.get(strong.plan.constraint, 1)
    return weak.threat.reaches_less_than == strong.plan.threat_model and weak.plan.constraint == strong.plan.constraint


def _beaten(
    code: str, weak: Sequence[MeasuredCell], strong: Sequence[MeasuredCell], matches: Matches
) -> Iterator[tuple[PlannedCell, Finding]]:
    """Where a weak cell beats all the strong cells that match it, taken together."""
    for cell in weak:
        rivals = [other for other in strong if matches(cell, other)]
        if not rivals:
            continue
        gain = _largest_win(outcomes(cell.rows), outcomes(pa.concat_tables([other.rows for other in rivals])))
        if gain:
            yield rivals[0].plan, Finding(code, gain, f"{cell.plan} recovers {gain:.1%} more than {rivals[0].plan}")


def _largest_win(weak: Outcomes, strong: Outcomes) -> float:
    """The largest significant lead of the weak attack at a budget that both ran, over the examples they share."""
    _, left, right = np.intersect1d(weak.examples, strong.examples, return_indices=True)
    leads = [
        net_gain(_lost(weak, budget)[left], _lost(strong, budget)[right], weak.clusters[left])
        for budget in np.intersect1d(weak.budgets, strong.budgets)
    ]
    return max((gain for gain, error in leads if significant(gain, error, MARGIN)), default=0.0)


def _lost(worst: Outcomes, budget: float) -> Array:
    """Examples recovered at a budget or below it, (examples,) bool."""
    return worst.first_budgets(selective=False) <= budget
