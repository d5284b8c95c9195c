"""Whether the searches of an attack had come to rest when they stopped, and what they spent."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from leaderboard.rows.arrays import Array, carries, flag, known_median, real, text
from leaderboard.rows.selection import attacked
from leaderboard.scores.intervals import estimates
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.values import Estimate, Strict


class Convergence(Strict):
    """Over the rows at ranked budgets that an attack has worked on: an example, a budget, a seed each."""

    rows: int
    still_improving: Estimate
    """Share of the rows that were not recovered and whose search was still improving when it stopped."""
    steps: float | None
    """Median optimiser steps of an example and seed, all budgets and restarts."""
    forwards: float | None
    """Median forward passes of the same."""


def still_improving(rows: pa.Table) -> Array:
    """Which rows more steps might recover, (rows,) bool."""
    return carries(rows, "not-converged") & ~flag(rows, "recovered")


def convergence(rows: pa.Table, resamples: Resamples) -> Convergence | None:
    """Of one attack; null: it has worked on nothing."""
    kept = attacked(rows)
    if not kept.num_rows:
        return None
    marked = np.asarray(still_improving(kept))[:, None]
    return Convergence(
        rows=kept.num_rows,
        still_improving=estimates(marked, text(kept, "cluster_id"), resamples)[0],
        steps=known_median(_of_examples(kept, "steps")),
        forwards=known_median(_of_examples(kept, "forwards")),
    )


def _of_examples(rows: pa.Table, name: str) -> Array:
    """What the rows of each example and seed spent together; NaN: the rows do not say."""
    keys = np.rec.fromarrays([text(rows, "example_id"), real(rows, "seed")])
    _, line = np.unique(keys, return_inverse=True)
    return np.bincount(line, weights=real(rows, name))
