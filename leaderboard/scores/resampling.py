"""Resamples of clusters, drawn once per task and shared by every statistic, so that all comparisons are paired."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from leaderboard.rows.arrays import Array

RESAMPLES = 10_000
BLOCK = 4_000_000
"""Draws held in memory at once."""


@dataclass(frozen=True)
class Resamples:
    """How often each cluster was drawn in each resample."""

    clusters: Array
    """Distinct cluster ids, sorted, (clusters,)."""
    counts: Array
    """(resamples, clusters); every row sums to the number of clusters."""

    @classmethod
    def draw(cls, clusters: Iterable[str], rng: np.random.Generator, resamples: int = RESAMPLES) -> Resamples:
        """Draw as many clusters as there are, with replacement, ``resamples`` times."""
        ids = np.unique(np.asarray(list(clusters), dtype=str))
        counts = np.empty((resamples, len(ids)))
        block = max(1, BLOCK // max(1, len(ids)))
        for start in range(0, resamples, block):
            part = counts[start : start + block]
            part[:] = _count(rng.integers(len(ids), size=part.shape) if len(ids) else part.astype(int))
        return cls(ids, counts)

    def means(self, values: Array, clusters: Array) -> Array:
        """The mean of ``values``, (rows, statistics), in each resample, (resamples, statistics).

        A resample without any row is NaN. ``clusters``, (rows,), names the cluster of each row.
        """
        place = np.searchsorted(self.clusters, clusters)
        ones = np.ones((len(values), 1))
        totals = np.zeros((len(self.clusters), values.shape[1] + 1))
        np.add.at(totals, place, np.hstack([values.astype(float), ones]))
        drawn = self.counts @ totals
        with np.errstate(invalid="ignore"):
            return drawn[:, :-1] / drawn[:, -1:]


def _count(drawn: Array) -> Array:
    """Cluster indices, (resamples, clusters), to how often each occurs in its row."""
    rows, clusters = drawn.shape
    flat = drawn + np.arange(rows)[:, None] * clusters
    return np.bincount(flat.ravel(), minlength=rows * clusters).reshape(rows, clusters)


@dataclass
class Resampler:
    """Hands out one ``Resamples`` per task and set of clusters, whatever else is on the board."""

    seed: int = 0
    resamples: int = RESAMPLES
    _drawn: dict[int, Resamples] = field(default_factory=dict, repr=False)

    def of(self, task: str, clusters: Array) -> Resamples:
        """The resamples of a task whose test examples fall into ``clusters``."""
        ids = np.unique(clusters)
        key = zlib.crc32("\0".join([task, *ids]).encode())
        if key not in self._drawn:
            self._drawn[key] = Resamples.draw(ids, np.random.default_rng([self.seed, key]), self.resamples)
        return self._drawn[key]
