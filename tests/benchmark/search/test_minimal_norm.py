"""The smallest rescaling that still reaches the goal, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacks.minimum_norm import MinimumNorm
from benchmark.search.constraint import EncoderNullSpace
from benchmark.search.minimal_norm import minimal_norm
from benchmark.search.problem import Problem
from tests.attacks.linear import D, make
from tests.attacks.test_minimum_norm import null_space


def smallest_norms(problem: Problem, delta: Tensor) -> tuple[Tensor, Tensor]:
    found = minimal_norm(delta, lambda d, rows: problem.evaluate(d, rows).reached)
    return found.delta.flatten(1).norm(dim=1), found.reached


@pytest.mark.parametrize("constraint", [None, null_space()], ids=["free", "null space"])
@pytest.mark.parametrize("budget", [4.0, 50.0])
def test_a_linear_goal_is_found_at_its_closed_form_norm(constraint: EncoderNullSpace | None, budget: float) -> None:
    made = make([budget], constraint=constraint)
    # in a null space a momentum step is along the projected gradient: nothing else of it is left
    norm, reached = smallest_norms(made.problem, MinimumNorm().run(made.problem).proposal)
    optimum = made.needs + made.slack
    assert reached.all()
    assert (norm >= optimum * (1 - 1e-5)).all() and (norm <= 1.001 * optimum).all()


def test_what_comes_back_was_verified_and_is_a_rescaling() -> None:
    made = make([0.3, 3.0], restarts=2)
    attempt = MinimumNorm().run(made.problem)
    before = made.problem.evaluate(attempt.proposal).reached
    found = minimal_norm(attempt.proposal, lambda d, rows: made.problem.evaluate(d, rows).reached)
    assert torch.equal(found.reached, before) and before.any() and not before.all()
    assert torch.equal(made.problem.evaluate(found.delta).reached, before)
    assert torch.equal(found.delta[~before], attempt.proposal[~before])
    assert torch.equal(found.share.isnan(), ~before)
    scaled = attempt.proposal * found.share[:, None, None, None]
    assert torch.equal(found.delta[before], scaled[before])
    assert ((found.share > 0) & (found.share <= 1))[before].all()


def test_rows_are_asked_no_oftener_than_they_need() -> None:
    asked = torch.zeros(3, dtype=torch.long)
    needs = torch.tensor([0.9, 0.013, 2.0])

    def reaches(delta: Tensor, rows: Tensor) -> Tensor:
        asked[rows] += 1
        return delta.flatten(1).norm(dim=1) >= needs[rows]

    found = minimal_norm(torch.ones(3, 1, 1, 1), reaches)
    assert asked.tolist() == [1 + 1 + 10, 1 + 7 + 10, 1]
    torch.testing.assert_close(found.share[:2], needs[:2], rtol=1e-3, atol=0)
    assert (found.share[:2] >= needs[:2]).all()


def test_where_success_is_not_monotone_what_comes_back_still_reaches() -> None:
    def reaches(delta: Tensor, rows: Tensor) -> Tensor:
        size = delta.flatten(1).norm(dim=1)
        return (size > 0.9) | ((size > 0.3) & (size < 0.6))

    found = minimal_norm(torch.ones(2, 1, 1, 1), reaches)
    assert reaches(found.delta, torch.arange(2)).all() and (found.share < 0.31).all()


def test_nothing_that_reaches_and_no_rows_at_all() -> None:
    none = minimal_norm(torch.ones(2, 1, 1, D), lambda d, rows: torch.zeros(len(d), dtype=torch.bool))
    assert not none.reached.any() and torch.equal(none.delta, torch.ones(2, 1, 1, D))
    empty = minimal_norm(torch.ones(0, 1, 1, D), lambda d, rows: torch.zeros(len(d), dtype=torch.bool))
    assert len(empty.share) == 0
