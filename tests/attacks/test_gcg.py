"""The search over typed tokens on problems whose answer is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attacks.gcg import Gcg
from attacks.random_suffix import RandomSuffix
from tests.attacks.typed import TRIGGER, make


def test_a_planted_trigger_is_found_and_not_by_chance() -> None:
    made = make(2)
    found = Gcg(steps=6, top=8, candidates=16).run(made.problem)
    assert all(set(suffix) == set(TRIGGER) for suffix in found.proposal.tolist())
    assert made.problem.evaluate(found.proposal).reached.all() and found.converged.all()
    blind = make(2, restarts=8)
    drawn = RandomSuffix().run(blind.problem)
    assert not blind.problem.evaluate(drawn.proposal).reached.any()


def test_one_token_is_not_enough_for_a_trigger_of_two() -> None:
    made = make(1)
    assert not made.problem.evaluate(Gcg(steps=4).run(made.problem).proposal).reached.any()


def test_only_allowed_tokens_are_typed() -> None:
    made = make(3, restarts=2)
    made.lexicon.allowed[list(TRIGGER)] = False
    for attack in (Gcg(steps=3, restarts=2), RandomSuffix(restarts=2)):
        tokens = attack.run(made.problem).proposal
        assert made.problem.allowed[tokens].all() and not made.problem.evaluate(tokens).reached.any()


def test_the_best_of_all_steps_is_handed_in() -> None:
    made = make(2)
    made.lexicon.allowed[list(TRIGGER)] = False  # nothing is ever reached, so the search wanders on
    start = made.problem.evaluate(made.problem.start).objective
    assert (made.problem.evaluate(Gcg(steps=6).run(made.problem).proposal).objective >= start).all()


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_rows_do_not_depend_on_the_pack(rows: int) -> None:
    settings: dict[str, Any] = {"steps": 3, "top": 8, "candidates": 4, "restarts": 2}
    whole, split = make(3, restarts=2), make(3, restarts=2, pack_rows=rows)
    a, b = Gcg(**settings).run(whole.problem), Gcg(**settings).run(split.problem)
    assert torch.equal(a.proposal, b.proposal) and torch.equal(a.converged, b.converged)
    assert torch.equal(whole.problem.forwards, split.problem.forwards)


def test_random_numbers_belong_to_the_row_and_not_to_its_neighbours() -> None:
    many, few = make(2, restarts=2, examples=4), make(2, restarts=2, examples=2)
    assert torch.equal(many.problem.draw()[:4], few.problem.draw())
    only = torch.tensor([1])
    assert torch.equal(many.problem.draw(only), few.problem.draw(only)), "and not on which rows are still open"


def test_running_out_of_memory_halves_the_pack_and_changes_nothing() -> None:
    plain, short = make(2), make(2, pack_rows=16)
    short.run.fail_above = 5
    a, b = Gcg(steps=3, candidates=8).run(plain.problem), Gcg(steps=3, candidates=8).run(short.problem)
    assert torch.equal(a.proposal, b.proposal) and short.size.rows == 4
    assert torch.equal(plain.problem.forwards, short.problem.forwards), "a failed pass is not metered twice"


def test_every_candidate_is_metered() -> None:
    made = make(2, examples=2)
    made.lexicon.allowed[list(TRIGGER)] = False
    Gcg(steps=3, top=8, candidates=5).run(made.problem)
    assert made.problem.forwards.tolist() == [3 * (1 + 5)] * 2 and made.problem.backwards.tolist() == [3] * 2


def test_the_gradient_is_that_of_the_one_hot_token() -> None:
    made = make(2)
    tokens = made.problem.draw()
    gradient = made.problem.slope(tokens).gradient
    gain = made.lexicon.vectors(torch.arange(len(made.lexicon.allowed))) @ gradient[0, 0]
    listed = made.problem.substitutes(gradient, 5)[0, 0]
    expected = gain.masked_fill(~made.lexicon.allowed, -torch.inf).topk(5).indices
    assert torch.equal(listed, expected)


def test_candidates_differ_from_one_another_and_from_the_start_in_one_place() -> None:
    from attacks.gcg import _Search

    made = make(3, examples=2)
    search, rows = _Search(made.problem), torch.arange(2)
    substitutes = made.problem.substitutes(made.problem.slope(search.tokens).gradient, 6)
    tried = search._candidates(rows, substitutes, 10)
    assert ((tried != search.tokens[:, None]).sum(2) <= 1).all()
    assert all(len({tuple(t) for t in row}) >= 9 for row in tried.tolist()), "one of them may be the start itself"
