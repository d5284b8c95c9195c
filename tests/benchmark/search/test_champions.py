"""Which restart counts, and that rounding does not say so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmark.search.champions import by_rank, champions
from benchmark.search.oracle import State

PROBLEM: Any = SimpleNamespace(grid=(1, 2, 3))


@pytest.mark.parametrize(
    ("norms", "order"),
    [
        ([1.0, 1.0 + 3e-7, 0.5], [0, 1, 2]),  # one norm, whatever rounding makes of it
        ([1.0 + 3e-7, 1.0, 0.5], [0, 1, 2]),
        ([1.0, 1.001, 0.5], [0, 1, 2]),  # the smaller
        ([1.001, 1.0, 9.0], [1, 0, 2]),
    ],
)
def test_the_smallest_that_reached_comes_first_and_of_one_norm_the_attack_decides(
    norms: list[float], order: list[int]
) -> None:
    """The third restart has the best objective and did not reach; in the second line nobody did."""
    delta = torch.tensor([*norms, 1.0, 2.0, 3.0])[:, None, None, None]
    state = State(torch.tensor([0.1, 0.5, 0.9, -2.0, -1.0, -3.0]), torch.tensor([1, 1, 0, 0, 0, 0]) > 0)
    assert by_rank(PROBLEM, state, delta).tolist() == [order, [4, 3, 5]]
    assert champions(PROBLEM, state, delta).tolist() == [order[0], 4]
