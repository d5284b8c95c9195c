"""A few points of a search's own path, kept for who checks the gradients that it was given there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.search.draws import generator
from benchmark.search.oracle import Slope

POINTS = 3
"""Points kept of a row."""


class Point(NamedTuple):
    """Where a search was, and what it was told there."""

    row: int
    """Of the problem."""
    delta: Tensor
    """(sites, perturbed, d_model)."""
    objective: float
    gradient: Tensor
    """Shaped like ``delta``."""


class Path:
    """Keeps up to ``POINTS`` points of each row asked for, where the goal was not reached yet.

    Every point of a row is as likely to be kept as any other, by numbers that the row's key gives: neither an attack
    nor a defense can tell which it will be, and what else is in the pack changes nothing.
    """

    def __init__(self, keys: Mapping[int, str]) -> None:
        """``keys``: row of the problem -> what its draws are seeded from."""
        self._draws = {row: generator(f"path|{key}") for row, key in keys.items()}
        self._met = dict.fromkeys(keys, 0)
        self._kept: dict[int, list[Point]] = {row: [] for row in keys}

    def __call__(self, rows: Tensor, delta: Tensor, slope: Slope) -> None:
        """A witness of ``Problem.slope``: the rows (k,), where they are and what they were told."""
        reached = slope.state.reached.tolist()
        for i, row in enumerate(rows.tolist()):
            if row in self._kept and not reached[i]:
                self._meet(row, delta[i], float(slope.state.objective[i]), slope.gradient[i])

    @property
    def points(self) -> list[Point]:
        """What was kept, row by row."""
        return [point for kept in self._kept.values() for point in kept]

    def _meet(self, row: int, delta: Tensor, objective: float, gradient: Tensor) -> None:
        self._met[row] += 1
        kept, met = self._kept[row], self._met[row]
        place = len(kept) if met <= POINTS else int(torch.randint(met, (1,), generator=self._draws[row]))
        if place < POINTS:
            kept[place : place + 1] = [Point(row, delta.detach().clone(), objective, gradient.clone())]
