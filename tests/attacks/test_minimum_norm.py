"""The search on problems whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacks.minimum_norm import MinimumNorm, _Search
from attacks.random_direction import RandomDirection
from benchmark.model.passes import Seen
from benchmark.sae.features import FeatureSet
from benchmark.search.constraint import EncoderNullSpace, Free
from benchmark.sites import Site
from tests.attacks.linear import EXAMPLES, D, Linear, make

BUDGETS = [0.05 * 1.05**i for i in range(70)]


def null_space(k: int = 5) -> EncoderNullSpace:
    encoder = torch.randn(D, k, generator=torch.Generator().manual_seed(1))
    features = FeatureSet(Site(0), tuple(range(k)), encoder, torch.zeros(k), torch.zeros(k), encoder.T)
    return EncoderNullSpace([[features]], D)


def norms(delta: Tensor) -> Tensor:
    return delta.flatten(1).norm(dim=1)


@pytest.mark.parametrize("constraint", [None, null_space()], ids=["free", "null space"])
@pytest.mark.parametrize("restarts", [1, 2])
def test_of_a_linear_goal_the_closed_form_optimum_is_found_within_two_percent(constraint, restarts):
    made = make([0.05, 50.0], restarts, constraint=constraint)
    proposal = MinimumNorm().run(made.problem).proposal
    assert made.problem.evaluate(proposal).reached.view(EXAMPLES, 2, restarts)[:, 1].all()
    found = norms(proposal).view(EXAMPLES, 2, restarts)[:, 1, 0]
    assert torch.allclose(norms(proposal)[-1], torch.tensor(50.0)) == (restarts == 2), (
        "the others are as far as it goes"
    )
    assert (found >= made.needs).all(), "no norm below the closed-form optimum can be enough"
    assert (found <= 1.02 * (made.needs + made.slack)).all()


def test_budgets_are_a_reading_of_the_norm():
    made, alone = make(BUDGETS), make([BUDGETS[-1]])
    proposal = MinimumNorm().run(made.problem).proposal
    reached = made.problem.evaluate(proposal).reached.view(EXAMPLES, len(BUDGETS))
    smallest = norms(MinimumNorm().run(alone.problem).proposal)
    budgets = torch.tensor(BUDGETS)
    assert (reached[:, 1:] >= reached[:, :-1]).all(), "a larger budget never does worse"
    assert reached.any() and not reached.all(), "a grid on which everything or nothing succeeds shows nothing"
    first = torch.tensor([BUDGETS[int(row.nonzero()[0])] for row in reached])
    assert (first <= smallest * 1.05 * 1.02).all() and (first >= made.needs).all()
    own = norms(proposal).view(EXAMPLES, -1)
    assert (own <= budgets * (1 + 1e-5)).all()
    at_first = own.gather(1, (budgets == first[:, None]).int().argmax(1, keepdim=True))[:, 0]
    assert (at_first <= 1.06 * (made.needs + made.slack)).all(), "at the first budget that is enough the smallest"


def test_the_null_space_makes_the_goal_more_expensive():
    assert (make(BUDGETS, constraint=null_space()).needs > make(BUDGETS).needs).all()


def test_constraint_and_budget_hold_at_every_step():
    constraint = null_space()
    made = make([0.1, 0.5, 2.0], restarts=2, constraint=constraint)
    MinimumNorm(steps=12).run(made.problem)
    assert len(made.run.calls) >= 12
    for delta, _ in made.run.calls:
        assert constraint.violation(delta).max() <= 1e-5
        assert norms(delta).max() <= 2.0 * (1 + 1e-5)


def test_projecting_nothing_would_violate_the_constraint():
    free = make([2.0])
    MinimumNorm(steps=12).run(free.problem)
    assert max(float(null_space().violation(delta).max()) for delta, _ in free.run.calls) > 1e-2


def test_a_budget_that_is_not_enough_is_used_up():
    made = make([0.01, 0.02])
    attempt = MinimumNorm().run(made.problem)
    state = made.problem.evaluate(attempt.proposal)
    assert not state.reached.any() and attempt.converged.all()
    assert torch.allclose(norms(attempt.proposal), made.problem.budget, rtol=1e-4)
    best = made.problem.budget * made.run.slopes.norm(dim=1).repeat_interleave(2) - made.run.gaps.repeat_interleave(2)
    assert torch.allclose(state.objective, best, atol=1e-3), "and what it gives is the optimum within it"


def test_an_example_costs_no_more_steps_than_its_restarts_have():
    made = make([0.01, 0.1, 1.0, 50.0], restarts=3)
    MinimumNorm(steps=12).run(made.problem)
    spent = made.problem.backwards.view(EXAMPLES, 4, 3).sum(1)
    assert (spent == 12).all()
    assert (made.problem.slopes.view(EXAMPLES, 4, 3).sum(1) == 12).all()


def test_a_lane_that_reached_the_goal_in_the_smallest_budget_stops():
    made = make([50.0, 100.0])
    MinimumNorm().run(made.problem)
    assert (made.problem.backwards.view(EXAMPLES, 2).sum(1) <= 3).all()


@pytest.mark.parametrize("pack", [1, 3, 8])
def test_rows_do_not_depend_on_the_pack(pack):
    whole, split = make([0.1, 0.5, 2.0], restarts=2), make([0.1, 0.5, 2.0], restarts=2, pack=pack)
    a, b = MinimumNorm().run(whole.problem), MinimumNorm().run(split.problem)
    assert torch.allclose(a.proposal, b.proposal, atol=1e-5)
    assert torch.equal(a.converged, b.converged)


def test_running_out_of_memory_halves_the_pack_and_changes_nothing():
    plain, short = make([0.1, 0.5, 2.0]), make([0.1, 0.5, 2.0], pack=16)
    short.run.fail_above = 5
    a, b = MinimumNorm().run(plain.problem), MinimumNorm().run(short.problem)
    assert torch.allclose(a.proposal, b.proposal, atol=1e-5)
    assert torch.equal(plain.problem.forwards, short.problem.forwards), "a failed pass is not metered twice"
    assert short.pack.rows < 6


def test_random_numbers_belong_to_the_row_and_not_to_its_neighbours():
    many, few = make([0.1, 0.5], restarts=2), make([0.1, 0.5], restarts=2)
    few.problem._keys = few.problem._keys[3:]
    few.problem.grid = (EXAMPLES - 3, 2, 2)
    assert torch.equal(many.problem.noise()[-len(few.problem.noise()) :], few.problem.noise())


def test_random_directions_use_their_whole_budget_inside_the_feasible_set():
    constraint = null_space()
    made = make([0.1, 2.0], restarts=8, constraint=constraint)
    delta = RandomDirection().run(made.problem).proposal
    assert torch.allclose(norms(delta), made.problem.budget, rtol=1e-5)
    assert constraint.violation(delta).max() <= 1e-5


class Window(Linear):
    """The goal is a band along the slope: large budgets step over it."""

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        along = super().__call__(delta, rows, observe).read[:, 0] / self.slopes[rows].norm(dim=1)
        first = 0.05 - (along - 0.5).abs()
        return Seen(torch.stack([first, torch.zeros_like(first)], 1), {})


def test_a_band_that_every_larger_budget_steps_over_is_found_at_its_near_edge():
    made = make([0.2, 1.0, 7.0, 90.0])
    made.problem._run = Window(torch.zeros(EXAMPLES), made.run.slopes)
    proposal = MinimumNorm().run(made.problem).proposal
    reached = made.problem.evaluate(proposal).reached.view(EXAMPLES, 4)
    assert not reached[:, 0].any() and reached[:, 1:].all()
    found = norms(proposal).view(EXAMPLES, 4)
    assert (found[:, 1] >= 0.45).all() and (found[:, 1] <= 0.47).all(), "the slack of a hundredth lies behind the edge"
    assert (found[:, 2:] >= 0.45).all() and (found[:, 2:] <= 0.55).all()


class Jump(Linear):
    """An edit goes out: along the slope the goal is reached in a near band too, of which no gradient tells. Where the
    slope was followed for ``turn`` it leads elsewhere, so that what is found in the end does not point at the band."""

    band: tuple[float, float]
    turn = 0.01

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        assert delta is not None
        slopes, size = self.slopes[rows], self.slopes[rows].norm(dim=1)
        elsewhere = torch.stack([-slopes[:, 1::2], slopes[:, ::2]], 2).flatten(1)  # at a right angle
        along, aside = ((delta[:, 0, 0] * way).sum(1) / size for way in (slopes, elsewhere))
        first = size * (along.clamp(max=self.turn) + aside * (along > self.turn)) - self.gaps[rows]
        inside = (along > self.band[0]) & (along < self.band[1])
        return Seen(torch.stack([torch.where(inside, first.abs(), first), torch.zeros_like(first)], 1), {})


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize(
    ("budgets", "band", "found_by"),
    [([0.01, 0.02, 5.0], (0.0185, 0.0215), 1), ([0.008, 5.0], (0.0125, 0.0195), 2)],
    ids=["where a budget is", "between the budgets"],
)
def test_what_is_enough_before_the_linear_step_is_found(budgets, band, found_by, restarts):
    made = make(budgets, restarts)
    made.problem._run = Jump(made.run.gaps, made.run.slopes)
    made.problem._run.band = band
    proposal = MinimumNorm().run(made.problem).proposal
    reached = made.problem.evaluate(proposal).reached
    assert reached.view(EXAMPLES, len(budgets), restarts)[:, -1].all()
    smallest = torch.where(reached, norms(proposal), torch.inf).view(EXAMPLES, -1).amin(1)
    assert band[1] < made.needs.min(), "the linear step passes over it"
    assert (smallest < 1.2 * band[1]).all() == (restarts >= found_by)


class Fussy(Free):
    """Nothing is asked, but a share of the space is called infeasible: no step avoids it, and it is noticed."""

    def feasible(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return norms(delta) <= 0.6


def test_only_feasible_iterates_are_remembered_and_only_those_can_succeed():
    made = make([0.3, 2.0, 50.0], constraint=Fussy())
    proposal = MinimumNorm().run(made.problem).proposal
    assert Fussy().feasible(proposal).all()
    reached = made.problem.evaluate(proposal).reached.view(EXAMPLES, 3)
    far = made.needs > 0.6
    assert far.any() and not reached[far].any(), "a goal reached outside the set is none"
    assert reached[~far, 1:].all() or not (~far).any()


def test_blind_rows_are_noticed_and_numbers_that_are_none_do_no_harm():
    made = make([1.0])
    made.run.slopes = made.run.slopes.clone()
    made.run.slopes[2] = 0
    made.run.gaps = made.run.gaps.clone()
    made.run.gaps[4] = torch.nan
    attempt = MinimumNorm(steps=3).run(made.problem)
    assert made.problem.blind.tolist() == [False, False, True, False, False, False]
    assert attempt.proposal.isfinite().all()


def test_what_is_found_is_tried_at_every_budget():
    """A norm that ends above a budget by less than it is fine cannot say whether the budget was enough."""
    made = make([0.05, 50.0])
    optimum = float((made.needs + made.slack)[0])
    just = make([0.05, optimum * 1.002, 50.0])
    reached = just.problem.evaluate(MinimumNorm().run(just.problem).proposal).reached.view(EXAMPLES, 3)
    assert bool(reached[0, 1])
    less = make([0.05, optimum * 0.98, 50.0])
    reached = less.problem.evaluate(MinimumNorm().run(less.problem).proposal).reached.view(EXAMPLES, 3)
    assert not bool(reached[0, 1]) and bool(reached[0, 2])


def test_what_would_come_to_a_budget_at_the_pace_of_the_last_tenth_has_not_converged():
    search = _Search(make([1.0, 2.0]).problem)
    # the norm of what was found, a tenth of the steps ago and now; then where nothing was, the objective
    search.best = torch.tensor([4.0, 3.01, 2.1, 1.5, torch.inf, torch.inf])
    search.objective[4:] = torch.tensor([[-0.10], [-0.10]])
    search.mark()
    search.best = torch.tensor([3.0, 3.0, 2.05, 1.5, torch.inf, torch.inf])
    search.objective = search.objective.clone()
    search.objective[4:] = torch.tensor([[-0.08], [-0.095]])
    search._last = search.objective.clone()
    assert search.converged().view(EXAMPLES, 2).tolist() == [
        [False, False],  # falls by a quarter: to 0.2
        [True, True],  # by 0.3 %: to 2.9
        [True, False],  # to 1.6
        [True, True],  # stands, and the larger budget has reached it
        [False, False],  # rises by 0.02: to 0.12
        [True, True],  # by 0.005: to -0.05
    ]
