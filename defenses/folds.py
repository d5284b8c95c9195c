"""``fit`` dealt into parts, so that what is learned on the others is measured on each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmark.contracts.defense import Fitting, Outcome
from benchmark.contracts.example import Example
from defenses.latents import Layer, Measured, Rule, measure, together

PARTS = 4


class Fold(NamedTuple):
    """All parts but one to learn on, and that one to measure on."""

    learned: list[Measured]
    """All latents of every layer, on what is learned on."""
    judge: Fitting
    """What is measured on."""


class Dealt(NamedTuple):
    """``fit`` as a whole and in folds."""

    whole: list[Measured]
    folds: list[Fold]

    def possible(self, rules: Sequence[Rule], *, amplified: bool = False) -> list[Rule]:
        """Those by which every layer finds latents on whatever is learned on, no two of which are the same.

        Args:
            rules: by ascending count.

        Raises:
            UsageError: there is none.
        """
        everything = [one for measured in (self.whole, *(f.learned for f in self.folds)) for one in measured]
        found: list[Rule] = []
        for rule in rules:
            most = [one.qualifying(rule, amplified=amplified) for one in everything]
            smaller = [other.count for other in found if replace(other, count=rule.count) == rule]
            if all(most) and max(smaller, default=0) < max(most) and all(one.has(rule.count) for one in everything):
                found.append(rule)
        if not found:  # then one of these says why
            for one in everything:
                one.chosen(rules[0], amplified=amplified)
        return found


def deal(fitting: Fitting, layers: Sequence[Layer]) -> Dealt:
    """``fit`` by cluster in so many parts as it has clusters for, at most ``PARTS``; each is measured once.

    A task with a single cluster is learned and measured on the same examples.

    Raises:
        UsageError: a site or SAE that does not exist or fit.
    """
    examples, retain = fitting.examples, fitting.retain
    parts = min(PARTS, *(len({e.cluster for e in some}) for some in (examples, retain) if some))
    if parts == 1:
        whole = measure(fitting, layers, examples, retain)
        return Dealt(whole, [Fold(whole, fitting)])
    places = _places(examples, retain, parts)
    dealt = [tuple([e for e in some if places[e.cluster] == i] for some in (examples, retain)) for i in range(parts)]
    measured = [measure(fitting, layers, *part) for part in dealt]
    folds = [Fold(_joined(measured[:i] + measured[i + 1 :]), fitting.dealt(*part)) for i, part in enumerate(dealt)]
    return Dealt(_joined(measured), folds)


def pooled(outcomes: Sequence[Outcome]) -> Outcome:
    """What is suppressed and kept over all examples of ``outcomes``; no example is in two of them."""
    shown, right = sum(o.shown for o in outcomes), sum(o.right for o in outcomes)
    suppressed = sum(round((o.suppressed or 0.0) * o.shown) for o in outcomes)
    kept = sum(round((o.retained or 0.0) * o.right) for o in outcomes)
    return Outcome(suppressed / shown if shown else None, kept / right if right else None, shown, right)


def _places(examples: Sequence[Example], retain: Sequence[Example], parts: int) -> dict[str, int]:
    """Cluster -> part: as many of the task's and of the retain set's in each, in an order that has nothing to do with
    the data's own; a cluster of both lies in one part."""
    mine, rest = ({e.cluster for e in some} for some in (examples, retain))
    order = [*_mixed(mine & rest), *_mixed(mine - rest)]
    places = {cluster: i % parts for i, cluster in enumerate(order)}
    held = [sum(places.get(cluster) == part for cluster in rest) for part in range(parts)]
    for cluster in _mixed(rest - mine):
        places[cluster] = held.index(min(held))
        held[places[cluster]] += 1
    return places


def _mixed(clusters: Iterable[str]) -> list[str]:
    return sorted(clusters, key=lambda cluster: hashlib.sha256(cluster.encode()).digest())


def _joined(measured: Sequence[Sequence[Measured]]) -> list[Measured]:
    """Layer by layer, as if measured at once."""
    return [together(layer) for layer in zip(*measured, strict=True)]
