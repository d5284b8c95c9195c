"""Flags that compare cells of one task and defense: an attack with more freedom must not do worse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from leaderboard.flags import Finding, net_gain, significant
from leaderboard.outcomes import Outcomes, outcomes
from leaderboard.rows import Array, skipped
from leaderboard.runs import MeasuredCell, PlannedCell

MARGIN = 0.02
"""A weaker attack must win by more than this share of the eligible examples, and by two standard errors."""
RANDOM = frozenset({"random-direction", "random-suffix"})
"""Controls without a search."""
FREEDOM = {"none": 2, "encoder": 1, "jacobian": 0}
"""Constraints by what they leave free: ``encoder`` holds each perturbed site by itself, ``jacobian`` later ones too."""
STRONGER_THREAT = {"before_edit": "after_edit"}
"""What the first can reach, the second can reach too, at least up to how an edit scales a perturbation. Suffixes are
not compared: the budgets of soft ones are norms, those of token ones are numbers of tokens."""

Matches = Callable[[PlannedCell, PlannedCell], bool]


def comparison_findings(cells: Sequence[MeasuredCell]) -> list[tuple[PlannedCell, Finding]]:
    """What pairs of cells raise, each with the cell whose attack turned out too weak."""
    attacks = [cell for cell in cells if cell.plan.attacks and not skipped(cell.rows)]
    random = [cell for cell in cells if cell.plan.attack in RANDOM and cell.plan.goal == "behavior"]
    return [
        *_beaten("random-beats-gradient", random, attacks, _same_access),
        *_beaten("weaker-beats-stronger", attacks, attacks, _has_less),
    ]


def _same_access(weak: PlannedCell, strong: PlannedCell) -> bool:
    return (weak.threat_model, weak.constraint) == (strong.threat_model, strong.constraint)


def _has_less(weak: PlannedCell, strong: PlannedCell) -> bool:
    if weak.threat_model == strong.threat_model:
        return FREEDOM.get(weak.constraint, 1) < FREEDOM.get(strong.constraint, 1)
    return STRONGER_THREAT.get(weak.threat_model) == strong.threat_model and weak.constraint == strong.constraint


def _beaten(
    code: str, weak: Sequence[MeasuredCell], strong: Sequence[MeasuredCell], matches: Matches
) -> Iterator[tuple[PlannedCell, Finding]]:
    """Where a weak cell beats all the strong cells that match it, taken together."""
    for cell in weak:
        rivals = [other for other in strong if matches(cell.plan, other.plan)]
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
