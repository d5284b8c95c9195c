"""The smallest parts of ``leaderboard.json``: estimates with their intervals.

Shares, RS and areas are in [0, 1]. Budgets are in the unit of their threat model: of residual and embedding, eps, a
perturbation's L2 norm as a share of the site's residual norm or of the embedding norm; of tokens, a number.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Base of everything in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Interval(Strict):
    """A 95 % interval."""

    low: float
    high: float
    method: Literal["wilson", "cluster-bootstrap", "wilson-on-clusters"]
    """wilson: independent rows. wilson-on-clusters: the bootstrap had no width, so each cluster counts as one row."""


class Estimate(Strict):
    """A number and its interval; value null: nothing to measure; interval null: fewer than two clusters."""

    value: float | None
    interval: Interval | None = None


NOTHING = Estimate(value=None)
