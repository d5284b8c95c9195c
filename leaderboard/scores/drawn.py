"""A statistic with its value in every bootstrap resample, and what can be made of several.

All statistics of a task share its resamples, so that a difference or a mean of them has a paired interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from leaderboard.rows.arrays import Array
from leaderboard.scores.intervals import percentile, percentile_difference
from leaderboard.scores.values import NOTHING, Estimate


class Drawn(NamedTuple):
    """A statistic."""

    value: float
    draws: Array
    """In each resample, (resamples,); NaN: there was nothing to measure in it."""


def all_of(found: Mapping[str, Drawn], names: Sequence[str]) -> list[Drawn] | None:
    """The named statistics; null: none is named, or one of them is missing."""
    if not names or any(name not in found for name in names):
        return None
    return [found[name] for name in names]


def smallest(found: Sequence[Drawn] | None) -> Drawn | None:
    """The smallest, in each resample too; null stays null."""
    if not found:
        return None
    return Drawn(min(one.value for one in found), np.minimum.reduce([one.draws for one in found]))


def mean(found: Sequence[Drawn | None]) -> Drawn | None:
    """The mean; null where one is null, or there is none."""
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    return Drawn(float(np.mean([one.value for one in known])), np.mean([one.draws for one in known], axis=0))


def difference(first: Drawn | None, second: Drawn | None) -> Drawn | None:
    """The first less the second; null where one is null."""
    if first is None or second is None:
        return None
    return Drawn(first.value - second.value, first.draws - second.draws)


def share(drawn: Drawn | None, clusters: int) -> Estimate:
    """The estimate of a statistic in [0, 1]; value null: there is none."""
    if drawn is None:
        return NOTHING
    return Estimate(value=drawn.value, interval=percentile(drawn.draws, drawn.value, clusters))


def gap(drawn: Drawn | None, clusters: int) -> Estimate:
    """The same of a difference in [-1, 1]."""
    if drawn is None:
        return NOTHING
    return Estimate(value=drawn.value, interval=percentile_difference(drawn.draws, drawn.value, clusters))
