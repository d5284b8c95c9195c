"""What carries a recovery, where the run measured it: the parts of each perturbation, replayed one by one.

Counted attack by attack, each recovered example once, at its smallest budget; where a part is zero there is nothing
to replay, and the example does not count for that part.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from leaderboard.rows.arrays import Array, known_median, optional, text, where
from leaderboard.rows.selection import first_successes
from leaderboard.scores.intervals import estimates
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.values import Estimate, Strict

PARTS = ("clamped", "other", "residual")
"""Through the protected latents, through the others, and what the SAE does not explain; they sum to the whole."""
COSINE = "attr_cos_"


class AttributedPart(Strict):
    """One part of the perturbations, replayed alone."""

    n: int
    """Recovered examples that have it."""
    share: float | None
    """Median norm, as a share of the whole perturbation's; parts that are opposed may exceed 1."""
    recovered: Estimate
    """Share of those that it recovers alone, at its own norm."""
    equal_recovered: Estimate
    """The same, at the norm of the whole perturbation."""


class Attribution(Strict):
    """What carries the recoveries: parts of each recovered example's perturbation at its smallest budget."""

    n: int
    clusters: int
    parts: dict[str, AttributedPart]
    """clamped: through the protected latents; other: through the others; residual: unexplained by the SAE."""
    random_recovered: Estimate
    """The control: random vectors of the norm of the whole perturbation."""
    cosines: dict[str, float | None]
    """Medians, by the names of the two parts."""


def attribution(rows: pa.Table, resamples: Resamples) -> Attribution | None:
    """Over the recovered examples of one cell; null: the run did not measure it."""
    split = [~np.isnan(optional(rows, f"attr_{part}_share")) for part in PARTS]
    rows = first_successes(where(rows, np.logical_or.reduce(split)))
    if not rows.num_rows:
        return None
    clusters = text(rows, "cluster_id")

    def share(name: str) -> Estimate:
        return _share(optional(rows, name), clusters, resamples)

    return Attribution(
        n=rows.num_rows,
        clusters=len(np.unique(clusters)),
        parts={
            part: AttributedPart(
                n=int((~np.isnan(optional(rows, f"attr_{part}_recovered"))).sum()),
                share=known_median(optional(rows, f"attr_{part}_share")),
                recovered=share(f"attr_{part}_recovered"),
                equal_recovered=share(f"attr_{part}_equal_recovered"),
            )
            for part in PARTS
        },
        random_recovered=share("attr_random_recovered"),
        cosines={
            name.removeprefix(COSINE): known_median(optional(rows, name))
            for name in rows.column_names
            if name.startswith(COSINE)
        },
    )


def _share(values: Array, clusters: Array, resamples: Resamples) -> Estimate:
    """The mean of a part's successes, less the rows in which there is no such part."""
    measured = ~np.isnan(values)
    values, clusters = values[measured], clusters[measured]
    return estimates((values if (values % 1).any() else values.astype(bool))[:, None], clusters, resamples)[0]
