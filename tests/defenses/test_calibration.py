"""What a clamp is settled on: the smallest that suppresses and keeps, else the pair that came closest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from benchmark.contracts.defense import Outcome
from defenses.calibration import Aim, Tried, search
from defenses.latents import Rule

AIM = Aim(0.6, 0.99)
STRENGTHS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
RULES = [Rule(count=count, rate_ratio=ratio) for count, ratio in product((4, 8, 12), (1.25, 2.0))]


def made(suppressed: float, kept: float | None) -> Outcome:
    return Outcome(suppressed, kept, 200, 200)


def world(pushes: float, costs: float, spared: float = 1.0) -> Callable[[Rule, float], Outcome]:
    """More latents and strength suppress more and cost more; choosy rules push less and cost ``spared`` times that."""

    def measure(rule: Rule, strength: float) -> Outcome:
        choosy = rule.rate_ratio > 1.5
        size = strength * rule.count**0.5
        lost = costs * size * (spared if choosy else 1.0)
        return made(min(pushes * size * (0.8 if choosy else 1.0), 1.0), 1 - round(min(lost, 1.0), 3))

    return measure


def everything(measure: Callable[[Rule, float], Outcome]) -> list[Tried]:
    return [Tried(rule, s, measure(rule, s)) for rule, s in product(RULES, STRENGTHS)]


@pytest.mark.parametrize("pushes", [0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("costs", [0.0, 0.0008, 0.002, 0.01])
@pytest.mark.parametrize("spared", [0.2, 1.0])
def test_the_search_finds_what_trying_everything_finds(pushes: float, costs: float, spared: float) -> None:
    measure = world(pushes, costs, spared)
    tried, best = search(RULES, STRENGTHS, AIM, measure), AIM.best(everything(measure))
    found = AIM.best(tried)
    assert AIM.meets(found.outcome) == AIM.meets(best.outcome) and AIM.keeps(found.outcome) == AIM.keeps(best.outcome)
    if AIM.meets(best.outcome):
        assert (found.rule.count, found.strength) == (best.rule.count, best.strength)
    elif AIM.keeps(best.outcome):
        finer = next(after / before for before, after in zip(STRENGTHS, STRENGTHS[1:], strict=False))
        assert (best.outcome.suppressed or 0) <= finer * (found.outcome.suppressed or 0), "up to one step of the grid"
    assert len(tried) < len(everything(measure)) and len({(t.rule, t.strength) for t in tried}) == len(tried)


@pytest.mark.parametrize(
    ("tried", "taken"),
    [
        ({(4, 2.0): (0.6, 0.99), (8, 1.0): (0.6, 0.995), (8, 1.4): (0.7, 1.0)}, (8, 1.0)),
        ({(8, 1.0): (0.7, 1.0), (4, 4.0): (0.6, 1.0), (4, 2.8): (0.6, 0.995)}, (4, 2.8)),
        ({(4, 1.0): (0.3, 1.0), (8, 1.0): (0.5, 0.995), (12, 1.0): (0.9, 0.99)}, (8, 1.0)),
        ({(4, 1.0): (0.5, 1.0), (8, 0.5): (0.5, 1.0), (4, 0.7): (0.5, 1.0)}, (4, 0.7)),
        ({(4, 1.0): (0.3, 0.98), (8, 1.0): (0.9, 0.97), (12, 1.0): (0.4, 0.98)}, (12, 1.0)),
        ({(4, 1.0): (0.3, None), (8, 1.0): (0.7, None)}, (8, 1.0)),
    ],
    ids=[
        "half of what may be lost is spared, and what meets the aim is small",
        "fewer latents first, then the weaker",
        "none meets it: the one that suppresses most of those that keep",
        "as much with less",
        "none keeps: the one that keeps most, then suppresses most",
        "no retain set",
    ],
)
def test_the_best_of_what_was_tried(
    tried: dict[tuple[int, float], tuple[float, float | None]], taken: tuple[int, float]
) -> None:
    best = AIM.best([Tried(Rule(count=k), s, made(*pair)) for (k, s), pair in tried.items()])
    assert (best.rule.count, best.strength) == taken


def test_of_a_small_retain_set_nothing_may_be_lost() -> None:
    for right, lost, keeps in ((40, 0, True), (40, 1, False), (200, 1, True), (200, 2, False), (400, 2, True)):
        assert AIM.keeps(Outcome(0.5, (right - lost) / right, 100, right)) == keeps


def test_a_search_stops_where_more_is_of_no_use() -> None:
    """Early where the aim is met; up a ladder no further than it pays."""

    def looked_at(outcome: Callable[[Rule, float], Outcome]) -> list[tuple[int, float, float]]:
        return [(t.rule.count, t.rule.rate_ratio, t.strength) for t in search(RULES, STRENGTHS, AIM, outcome)]

    met = looked_at(lambda rule, s: made(0.3 * s, 1.0))
    assert met == [(4, 1.25, 1.0), (4, 1.25, 2.0), (4, 2.0, 1.0), (4, 1.25, 1.4)], "no larger count, no larger strength"
    costly = looked_at(lambda rule, s: made(0.3 * s, 1.0 if s < 1 else 0.9))
    first = [(rule.count, rule.rate_ratio, 1.0) for rule in RULES]
    assert costly == [*first, (4, 1.25, 0.7)], "weaker ones only where nothing keeps"
    flat = looked_at(lambda rule, s: made(0.3, 1.0))
    assert max(s for *_, s in flat) == 2.0 and len(flat) == 2 * len(RULES) + 1


def test_a_strength_that_is_given_is_the_only_one_tried() -> None:
    tried = search(RULES, (3.0,), AIM, lambda rule, s: made(0.1 * rule.count, 1.0))
    assert {t.strength for t in tried} == {3.0} and AIM.best(tried).rule == replace(RULES[0], count=8)
