"""What carries a recovery, where the run measured it: the parts of each perturbation, replayed one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from leaderboard.intervals import estimates
from leaderboard.resampling import Resamples
from leaderboard.rows import Array, first_successes, known_median, optional, text, where
from leaderboard.schema import AttributedPart, Attribution
from leaderboard.values import Estimate

PARTS = ("clamped", "other", "residual")
"""Through the protected latents, through the others, and what the SAE does not explain; they sum to the whole."""
COSINE = "attr_cos_"


def attribution(rows: pa.Table, resamples: Resamples) -> Attribution | None:
    """Over the recovered examples of a cell, each at its smallest budget; null: the run did not measure it."""
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
