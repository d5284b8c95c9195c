"""The smallest parts of ``leaderboard.json``: estimates with their intervals, and flags.

Shares, RS and areas are in [0, 1]; eps is a perturbation's L2 norm as a share of the site's residual norm (soft
suffixes: of the embedding norm). The budget of a token suffix is its number of tokens, under the same name.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Effect = Literal["ok", "lower-bound-only", "invalid"]
Family = Literal[
    "before_edit",
    "soft_suffix",
    "token_suffix",
    "after_edit",
    "after_edit_within_tau",
    "after_edit_within_paper_tau",
]


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


class Eps50(Strict):
    """The budget at which half of the suppressed examples are back, interpolated in log eps."""

    value: float | None
    """Null where nothing was suppressed."""
    censored: Literal["above", "below"] | None = None
    """above: more than ``value``, the largest budget; below: at most ``value``, the smallest one."""
    low: float | None = None
    """Lower end of the 95 % interval; null: above the largest budget, or no interval."""
    high: float | None = None
    """Upper end; null: above the largest budget, or no interval."""


class Flag(Strict):
    """Something doubtful about a measurement; ``FLAGS.md`` explains each code."""

    code: str
    effect: Effect
    evidence: float | None
    """The number that raised it; null: it is not finite."""
    sentence: str
    where: str
    """Task and cell."""
    scored: bool
    """The cell enters the headline score."""
