"""Which clamp is settled on: a search over how many latents, how choosy and how strong, with the gate in it.

A clamp has to do two things at once, suppress and keep. What is sought is the smallest that does both; where none does,
the pair of figures that came closest, by a rule that puts keeping first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from benchmark.contracts.defense import Outcome
from defenses.latents import Rule

TINY = 1e-9


class Tried(NamedTuple):
    """A clamp that may be settled on, and what it did."""

    rule: Rule
    strength: float
    outcome: Outcome

    @property
    def record(self) -> dict[str, object]:
        """The pair of figures that was reached, as JSON values."""
        return {"suppressed_held_out": self.outcome.suppressed, "retained_held_out": self.outcome.retained}


@dataclass(frozen=True)
class Aim:
    """What a clamp is to do."""

    target_share: float
    """Of the examples, to be suppressed."""
    retain_share: float
    """Of the retain set, to be kept."""

    def keeps(self, outcome: Outcome) -> bool:
        """At most half of what may be lost is lost: the rest is for what was not seen (1 of 200 at .99; of fewer,
        none)."""
        kept = outcome.retained
        return kept is None or kept >= (1 + self.retain_share) / 2 - TINY

    def meets(self, outcome: Outcome) -> bool:
        """It keeps, and suppresses as much as is asked."""
        return self.keeps(outcome) and (outcome.suppressed or 0.0) >= self.target_share - TINY

    def best(self, tried: Sequence[Tried]) -> Tried:
        """Of those that meet the aim the one with the fewest latents, then the smallest strength; if none does, of
        those that keep the one that suppresses most; if none keeps, the one that keeps most."""
        return max(tried, key=self._worth)

    def _worth(self, tried: Tried) -> tuple[float, ...]:
        rule, strength, outcome = tried
        suppressed, small = outcome.suppressed or 0.0, (-rule.count, -strength)
        if self.meets(outcome):
            return (2, *small, suppressed)
        if self.keeps(outcome):
            return (1, suppressed, *small)
        return (0, outcome.retained or 0.0, suppressed, *small)


Measure = Callable[[Rule, float], Outcome]


def search(rules: Sequence[Rule], strengths: Sequence[float], aim: Aim, measure: Measure) -> list[Tried]:
    """The clamps that were looked at, in that order: first far apart, then closer and closer to the best.

    Args:
        rules: by ascending count; once one of a count meets the aim, no larger count is looked at.
        strengths: ascending; for each rule every other one from the third on is climbed until the aim is met, the
            retain set suffers, or a stronger clamp suppresses no more.
    """
    tried: list[Tried] = []
    for _, alike in groupby(rules, key=lambda rule: rule.count):
        enough = math.inf
        for rule in alike:
            tried += _climb(rule, [s for s in strengths[2::2] or strengths if s < enough], aim, measure)
            if tried and aim.meets(tried[-1].outcome):
                enough = tried[-1].strength
        if enough < math.inf:
            break
    return _closer(tried, strengths, aim, measure)


def _climb(rule: Rule, strengths: Sequence[float], aim: Aim, measure: Measure) -> Iterator[Tried]:
    """Up the ``strengths``, as far as it is worth while."""
    before = 0.0
    for strength in strengths:
        outcome = measure(rule, strength)
        yield Tried(rule, strength, outcome)
        suppressed = outcome.suppressed or 0.0
        if aim.meets(outcome) or not aim.keeps(outcome) or 0 < suppressed <= before:
            return
        before = suppressed


def _closer(tried: Sequence[Tried], strengths: Sequence[float], aim: Aim, measure: Measure) -> list[Tried]:
    """What was tried, and what lies beside the best of it, for as long as that is better."""
    found, best = list(tried), aim.best(tried)
    while (strength := _beside(best, strengths, aim)) is not None:
        if any((t.rule, t.strength) == (best.rule, strength) for t in found):
            break
        found.append(Tried(best.rule, strength, measure(best.rule, strength)))
        best = aim.best(found)
    return found


def _beside(best: Tried, strengths: Sequence[float], aim: Aim) -> float | None:
    """The next weaker strength where the best meets the aim or costs too much, else the next stronger; None: there is
    none."""
    weaker = aim.meets(best.outcome) or not aim.keeps(best.outcome)
    place = strengths.index(best.strength) + (-1 if weaker else 1)
    return strengths[place] if 0 <= place < len(strengths) else None
