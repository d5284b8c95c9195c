"""A search does not climb into what the clean pass calls broken."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.contracts.attack import Terms
from benchmark.measure.group import Group
from benchmark.measure.remeasure import remeasure
from benchmark.model.pack import make_packs
from benchmark.registry import threat
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from tests.groups import BUDGETS, SEARCH

MANY = 16
"""Restarts."""


@pytest.fixture(scope="module")
def broken(group: Group) -> Group:
    """The group with a floor a little above the least mass that a search leaves where there is none."""
    target, searching = problem(group)
    floored = replace(group, floor=1e-30)
    seen = floored.run(target.pack, target.writes)(SEARCH.run(searching).proposal, searching.example)
    assert seen.log_mass is not None
    return replace(group, floor=1.25 * math.exp(float(seen.log_mass.min())))


def problem(group: Group, restarts: int = 1) -> tuple[Any, Problem]:
    """All suppressed examples of one length, at every budget."""
    pack = max(make_packs(group.subject, group.task, group.attacked, 256), key=len)
    before: Any = threat("before_edit")
    target = before.aim(group, "none", "behavior", pack)
    terms = Terms("none", "behavior", restarts, "broken")
    return target, before.problem(group, terms, BUDGETS, pack, PackSize(256))


def proposals(group: Group, broken: Group) -> list[Tensor]:
    """What searches with and without the floor end at, and noise."""
    with_floor, without = (problem(own, MANY)[1] for own in (broken, group))
    noise = without.restore(3 * without.noise())
    return [SEARCH.run(with_floor).proposal, SEARCH.run(without).proposal, noise]


def test_the_objective_is_above_0_where_the_clean_pass_says_so(group: Group, broken: Group) -> None:
    said = []
    for own in (group, broken):
        target, searching = problem(own, MANY)
        for delta in proposals(group, broken):
            found = searching.evaluate(delta)
            clean = remeasure(own, target, delta, MANY * len(BUDGETS), PackSize(256))
            sure = found.objective.abs() > 0.05
            recovered = torch.tensor([row.recovered for row in clean])
            assert torch.equal((found.objective > 0)[sure], recovered[sure])
            assert torch.equal(found.reached[sure], recovered[sure])
            said.append((recovered, torch.tensor([row.broken for row in clean]), found.objective))
    (free, none, margin), (held, hit, objective) = (
        [torch.cat(part) for part in zip(*some, strict=True)] for some in (said[:3], said[3:])
    )
    assert not none.any() and (hit & free).any(), "some that would count are broken"
    assert torch.equal(held, free & ~hit) and held.any()
    assert (objective <= margin + 1e-5).all() and (objective[hit] < 0).all()


@pytest.mark.parametrize("tail", [True, False])
def test_its_gradient_is_its_own(broken: Group, tail: bool) -> None:
    _, searching = problem(replace(broken, tail=tail), MANY)
    delta = searching.restore(3 * searching.noise())
    slope = searching.slope(delta)
    way = slope.gradient / slope.gradient.flatten(1).norm(dim=1)[:, None, None, None]
    ahead, behind = (searching.evaluate(delta + sign * 1e-3 * way).objective for sign in (1, -1))
    own = (slope.gradient * way).flatten(1).sum(1)
    off = ((ahead - behind) / 2e-3 - own).abs() / own
    assert (off < 0.05).float().mean() > 0.9, "the others lie where one of the two takes over"


def test_more_comes_back_than_by_climbing_on_the_margin_alone(group: Group, broken: Group) -> None:
    ends = []
    for own in (broken, group):
        target, searching = problem(own)
        delta = SEARCH.run(searching).proposal
        ends.append(remeasure(broken, target, delta, len(BUDGETS), PackSize(256)))
    aware, blind = ends
    assert sum(row.recovered for row in aware) > sum(row.recovered for row in blind)
    assert sum(row.broken for row in aware) < sum(row.broken for row in blind)
