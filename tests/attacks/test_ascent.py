"""The optimiser on problems whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacks.ascent import Ascent, _Search
from attacks.random_direction import RandomDirection
from benchmark.model.passes import Seen
from benchmark.sae.features import FeatureSet
from benchmark.search.constraint import EncoderNullSpace, Free
from benchmark.search.oracle import State
from benchmark.sites import Site
from tests.attacks.linear import EXAMPLES, D, Linear, make

BUDGETS = [0.05 * 1.05**i for i in range(70)]


def null_space(k: int = 5) -> EncoderNullSpace:
    encoder = torch.randn(D, k, generator=torch.Generator().manual_seed(1))
    features = FeatureSet(Site(0), tuple(range(k)), encoder, torch.zeros(k), torch.zeros(k), encoder.T)
    return EncoderNullSpace([[features]], D)


@pytest.mark.parametrize("constraint", [None, null_space()], ids=["free", "null space"])
def test_a_linear_goal_is_reached_at_its_closed_form_norm_within_five_percent(constraint):
    made = make(BUDGETS, constraint=constraint)
    attempt = Ascent().run(made.problem)
    reached = made.problem.evaluate(attempt.proposal).reached.view(EXAMPLES, len(BUDGETS))
    smallest = torch.tensor([BUDGETS[int(row.nonzero()[0])] for row in reached])
    optimum = made.needs + made.slack
    assert (smallest >= made.needs).all(), "no budget below the closed-form optimum can be enough"
    assert (smallest <= 1.05 * 1.05 * optimum).all()


def test_the_null_space_makes_the_goal_more_expensive():
    assert (make(BUDGETS, constraint=null_space()).needs > make(BUDGETS).needs).all()


def test_constraint_and_budget_hold_at_every_step():
    constraint = null_space()
    made = make([0.1, 0.5, 2.0], restarts=2, constraint=constraint)
    Ascent(steps=12).run(made.problem)
    assert len(made.run.calls) >= 12
    for delta, _ in made.run.calls:
        assert constraint.violation(delta).max() <= 1e-5
        assert delta.flatten(1).norm(dim=1).max() <= 2.0 * (1 + 1e-5)


def test_projecting_nothing_would_violate_the_constraint():
    free = make([2.0])
    Ascent(steps=12).run(free.problem)
    assert max(float(null_space().violation(delta).max()) for delta, _ in free.run.calls) > 1e-2


def test_a_larger_budget_never_does_worse():
    made = make([0.1, 0.3, 0.9, 2.7], restarts=2)
    attempt = Ascent(steps=10).run(made.problem)
    state = made.problem.evaluate(attempt.proposal)
    reached = state.reached.view(EXAMPLES, 4, 2).any(2)
    best = state.objective.view(EXAMPLES, 4, 2).amax(2)
    assert (reached[:, 1:] >= reached[:, :-1]).all()
    open_pairs = ~reached[:, 1:]
    assert (best[:, 1:] >= best[:, :-1] - 1e-5)[open_pairs].all()
    assert reached.any() and not reached.all(), "a grid on which everything or nothing succeeds shows nothing"


def test_rows_that_reached_their_goal_cost_nothing_more():
    made = make([0.01, 50.0])
    Ascent(steps=20, exchanges=2).run(made.problem)
    small, large = made.problem.backwards.view(EXAMPLES, 2).T
    assert (small == 20).all() and (large < 10).all()


@pytest.mark.parametrize("pack", [1, 3, 8])
def test_rows_do_not_depend_on_the_pack(pack):
    whole, split = make([0.1, 0.5, 2.0], restarts=2), make([0.1, 0.5, 2.0], restarts=2, pack=pack)
    a, b = Ascent().run(whole.problem), Ascent().run(split.problem)
    assert torch.allclose(a.proposal, b.proposal, atol=1e-5)
    assert torch.equal(a.converged, b.converged)


def test_running_out_of_memory_halves_the_pack_and_changes_nothing():
    plain, short = make([0.1, 0.5, 2.0]), make([0.1, 0.5, 2.0], pack=16)
    short.run.fail_above = 5
    a, b = Ascent().run(plain.problem), Ascent().run(short.problem)
    assert torch.allclose(a.proposal, b.proposal, atol=1e-5)
    assert torch.equal(plain.problem.forwards, short.problem.forwards), "a failed pass is not metered twice"
    assert short.pack.rows == 4


def test_random_numbers_belong_to_the_row_and_not_to_its_neighbours():
    many, few = make([0.1, 0.5], restarts=2), make([0.1, 0.5], restarts=2)
    few.problem._keys = few.problem._keys[3:]
    few.problem.grid = (EXAMPLES - 3, 2, 2)
    assert torch.equal(many.problem.noise()[-len(few.problem.noise()) :], few.problem.noise())


def test_random_directions_use_their_whole_budget_inside_the_feasible_set():
    constraint = null_space()
    made = make([0.1, 2.0], restarts=8, constraint=constraint)
    delta = RandomDirection().run(made.problem).proposal
    assert torch.allclose(delta.flatten(1).norm(dim=1), made.problem.budget, rtol=1e-5)
    assert constraint.violation(delta).max() <= 1e-5


class Window(Linear):
    """The goal is a narrow band along the slope: large budgets step over it."""

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        along = super().__call__(delta, rows, observe).read[:, 0] / self.slopes[rows].norm(dim=1)
        first = 0.05 - (along - 0.5).abs()
        return Seen(torch.stack([first, torch.zeros_like(first)], 1), {})


@pytest.mark.parametrize("restarts", [1, 2])
def test_rows_whose_smaller_budget_reached_the_goal_take_no_further_slopes(restarts):
    budgets = [0.2, 1.0, 7.0, 90.0]
    made = make(budgets, restarts=restarts)
    made.problem._run = Window(torch.zeros(EXAMPLES), made.run.slopes)
    attempt = Ascent(steps=20, exchanges=1).run(made.problem)
    slopes = made.problem.backwards.view(EXAMPLES, 4, restarts)
    # half a budget of 1 is the middle of the band: seen at the second slope, and nothing after it
    assert (slopes[:, 0] == 20).all() and (slopes[:, 1:] == 2).all()
    state = made.problem.evaluate(attempt.proposal)
    assert state.reached.view(EXAMPLES, 4, restarts)[:, 1:].all()
    given = attempt.proposal.view(EXAMPLES, 4, restarts, D)
    assert torch.equal(given[:, 2:], given[:, 1:2, :1].expand_as(given[:, 2:])), "larger budgets take it over"


def test_a_reached_goal_outranks_a_better_objective_and_moves_nobody_else():
    made = make([1.0, 2.0])
    search = _Search(made.problem)
    search.delta = made.problem.noise()
    # first example: reached at the small budget with a low objective; second: only the objectives differ
    objective = torch.zeros(2 * EXAMPLES)
    objective[:4] = torch.tensor([1.0, 5.0, 5.0, 1.0])
    search._remember(torch.arange(2 * EXAMPLES), State(objective, torch.arange(2 * EXAMPLES) == 0))
    assert torch.equal(search.best_delta[1], search.delta[0]) and float(search.best[1]) == 1.0
    assert search.open_rows().tolist() == list(range(2, 2 * EXAMPLES))
    assert not torch.equal(search.delta[2], search.delta[3])
    search.share()
    assert torch.equal(search.delta[2], search.delta[3]) and search.best[2:4].tolist() == [5.0, 5.0]


class Fussy(Free):
    """Nothing is asked, but a share of the space is called infeasible: no step avoids it, and it is noticed."""

    def feasible(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return delta.flatten(1).norm(dim=1) <= 0.6


def test_only_feasible_iterates_are_remembered_and_only_those_can_succeed():
    made = make([0.3, 2.0, 50.0], constraint=Fussy())
    attempt = Ascent(steps=10).run(made.problem)
    assert Fussy().feasible(attempt.proposal).all()
    reached = made.problem.evaluate(attempt.proposal).reached
    seen = torch.zeros_like(reached)
    for delta, rows in made.run.calls[:-1]:
        if len(delta) == len(seen):
            seen |= (delta[:, 0, 0] * made.run.slopes[rows]).sum(1) - made.run.gaps[rows] > 0.01
    assert (seen & ~reached).any(), "a goal reached outside the set is none"
    assert (made.problem.backwards[~reached] == 10).all(), "and the search goes on"


def test_blind_rows_are_noticed():
    made = make([1.0])
    made.run.slopes = made.run.slopes.clone()
    made.run.slopes[2] = 0
    Ascent(steps=3).run(made.problem)
    assert made.problem.blind.tolist() == [False, False, True, False, False, False]
