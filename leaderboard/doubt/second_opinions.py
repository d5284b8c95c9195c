"""The flag that members without a gradient were needed, where a gradient should have done."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from leaderboard.doubt.flags import Finding
from leaderboard.doubt.gains import net_gain, significant
from leaderboard.rows.arrays import text
from leaderboard.scores.outcomes import outcomes

GRADIENT_FREE = ("way-back", "error-subspace", "random-search")
MARGIN = 0.02
"""Of the eligible examples, as everywhere where a weaker attack wins."""


def opinion_findings(rows: pa.Table) -> Iterator[Finding]:
    """The largest share that only members without a gradient recovered, at some budget or below it."""
    needed = np.isin(text(rows, "found_by"), GRADIENT_FREE)
    if not needed.any():
        return
    place = rows.column_names.index("recovered")
    failed = pa.array(np.where(needed, False, rows.column("recovered").to_numpy(zero_copy_only=False)), pa.bool_())
    whole, without = outcomes(rows), outcomes(rows.set_column(place, "recovered", failed))
    first, second = (worst.first_budgets(selective=False) for worst in (whole, without))
    gains = [net_gain(first <= budget, second <= budget, whole.clusters) for budget in whole.budgets]
    gain = max((gain for gain, error in gains if significant(gain, error, MARGIN)), default=0.0)
    if gain:
        yield Finding(
            "gradient-free-beats-gradient",
            gain,
            f"{gain:.1%} of the eligible examples came back only without a gradient",
        )
