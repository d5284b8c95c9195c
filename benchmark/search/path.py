"""A few points of a search's own path, kept for who checks the gradients that it was given there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.search.draws import generator
from benchmark.search.oracle import Slope

POINTS = 3
"""Points kept of an example."""


class Point(NamedTuple):
    """Where a search was, and what it was told there."""

    key: str
    """What random numbers about it are seeded from."""
    row: int
    """Of the problem."""
    delta: Tensor
    """(sites, perturbed, d_model)."""
    objective: float
    gradient: Tensor
    """Shaped like ``delta``."""


class Path:
    """Keeps up to ``POINTS`` points of each example asked for, where the goal was not reached yet.

    Every point of an example is as likely to be kept as any other, by numbers that its key gives: neither an attack
    nor a defense can tell which it will be, and what else is in the pack changes nothing.
    """

    def __init__(self, keys: Mapping[int, str], example: Tensor) -> None:
        """``keys``: example -> what its draws are seeded from; ``example`` (rows,): of each row of the problem."""
        self._example, self._keys = example.tolist(), keys
        self._draws = {one: generator(f"path|{key}") for one, key in keys.items()}
        self._met = dict.fromkeys(keys, 0)
        self._kept: dict[int, list[Point]] = {one: [] for one in keys}

    def __call__(self, rows: Tensor, delta: Tensor, slope: Slope) -> None:
        """A witness of ``Problem.slope``: the rows (k,), where they are and what they were told."""
        reached = slope.state.reached.tolist()
        for i, row in enumerate(rows.tolist()):
            if self._example[row] in self._kept and not reached[i]:
                self._meet(row, delta[i], float(slope.state.objective[i]), slope.gradient[i])

    @property
    def kept(self) -> Mapping[int, list[Point]]:
        """What was kept of each example; of those that were met."""
        return {one: points for one, points in self._kept.items() if points}

    def _meet(self, row: int, delta: Tensor, objective: float, gradient: Tensor) -> None:
        one = self._example[row]
        self._met[one] += 1
        kept, met = self._kept[one], self._met[one]
        place = len(kept) if met <= POINTS else int(torch.randint(met, (1,), generator=self._draws[one]))
        if place < POINTS:
            key = f"{self._keys[one]}|{place}"
            kept[place : place + 1] = [Point(key, row, delta.detach().clone(), objective, gradient.clone())]
