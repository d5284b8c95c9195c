"""What a recovery took, over the recovered examples of a cell."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from leaderboard.rows.arrays import Array, flag, known_mean, known_median, optional, real
from leaderboard.rows.selection import first_successes
from leaderboard.scores.values import Strict


class FirstSuccess(Strict):
    """What it took, over the recovered examples, each at its smallest budget; medians unless named otherwise."""

    n: int
    drift_abs: float | None
    """L2 change of the protected activations, of the first iterate that reached the goal."""
    drift_rel: float | None
    """The same over the norm of the defended activations, where that norm is not near zero."""
    n_near_zero: int
    """Examples that ``drift_rel`` leaves out, because that norm is near zero."""
    min_eps: float | None
    """eps of the smallest rescaling of the perturbation that still reaches the goal; null: not measured."""
    delta_eps: float | None
    """eps of the first iterate that reached the goal."""
    delta_norm: float | None
    reactivated_fraction: float | None
    """Mean over the examples, of the perturbation that was re-measured."""
    zero_reactivation: float | None
    """Share of the examples in which no protected latent came back above its threshold."""


def first_success(rows: pa.Table) -> FirstSuccess:
    """Each recovered example at its smallest budget, and there at its smallest perturbation."""
    rows = first_successes(rows)
    near_zero = flag(rows, "near_zero")
    eps = real(rows, "first_success_eps")
    scale = real(rows, "budget_abs") / np.where(real(rows, "budget_eps") > 0, real(rows, "budget_eps"), np.nan)
    return FirstSuccess(
        n=rows.num_rows,
        drift_abs=known_median(real(rows, "first_success_drift")),
        drift_rel=known_median(np.where(near_zero, np.nan, _relative_drift(rows))),
        n_near_zero=int(near_zero.sum()),
        min_eps=known_median(optional(rows, "min_eps")),
        delta_eps=known_median(eps),
        delta_norm=known_median(eps * scale),
        reactivated_fraction=known_mean(real(rows, "reactivated_fraction")),
        zero_reactivation=known_mean(real(rows, "zero_reactivation")),
    )


def _relative_drift(rows: pa.Table) -> Array:
    """The first success's drift over the norm by which the re-measured drift was divided."""
    drift, relative, first = (real(rows, name) for name in ("drift_abs", "drift_rel", "first_success_drift"))
    return np.divide(first * relative, drift, out=np.where(first == 0, 0.0, relative), where=drift > 0)
