"""``fit`` in folds: nothing is measured on what it was learned on, and all of it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from benchmark.contracts.defense import Outcome
from benchmark.contracts.example import Example, Split
from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from defenses.folds import PARTS, deal, pooled
from defenses.latents import Rule, choose, measure
from tests import tiny
from tests.defenses.world import CALIBRATED, GIVEN, RULE, Alone, seen, world


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return world(tmp_path_factory.mktemp("sae"))[0]


class Beside(tiny.ToyTask):
    """A retain set of other clusters, but for one that the task has too."""

    def retain(self, split: Split) -> Sequence[Example]:
        others = [replace(e, id=f"other/{e.id}", cluster=f"other {e.cluster}") for e in super().examples("dev")]
        return [*others, replace(others[0], id="shared", cluster="cluster 3")]


def clusters(examples: Sequence[Example]) -> set[str]:
    return {e.cluster for e in examples}


def test_every_example_is_measured_on_once_and_never_learned_on_there(subject: Subject) -> None:
    fitting = seen(subject, Beside())
    dealt = deal(fitting, ())
    assert len(dealt.folds) == PARTS == len(clusters(fitting.retain))
    for which in ("examples", "retain"):
        judged = [e.id for fold in dealt.folds for e in getattr(fold.judge, which)]
        assert sorted(judged) == sorted(e.id for e in getattr(fitting, which))
    for fold in dealt.folds:
        held = clusters([*fold.judge.examples, *fold.judge.retain])
        mine, rest = ([e for e in some if e.cluster not in held] for some in (fitting.examples, fitting.retain))
        assert len(mine) + len(fold.judge.examples) == len(fitting.examples), "a cluster lies in one part"
        (expected,), (got,) = measure(fitting, (), mine, rest), fold.learned
        assert got.retain is not None and expected.retain is not None
        for a, b in ((got.task, expected.task), (got.retain, expected.retain)):
            assert torch.allclose(a.effect, b.effect, atol=1e-6) and torch.allclose(a.rate, b.rate)


def test_the_parts_together_are_the_whole(subject: Subject) -> None:
    fitting = seen(subject, Beside())
    (whole,), (chosen,) = deal(fitting, ()).whole, choose(fitting, (), RULE)
    assert whole.chosen(RULE).features.latents == chosen.features.latents
    assert torch.allclose(whole.chosen(RULE).unit, chosen.unit)


def test_a_task_alone_and_one_of_a_single_cluster(subject: Subject) -> None:
    class Single(Alone):
        def examples(self, split: Split) -> Sequence[Example]:
            return [replace(e, cluster="one") for e in super().examples(split)]

    assert all(part.retain is None for part in deal(seen(subject, Alone()), ()).whole)
    fitting = seen(subject, Single())
    (fold,) = deal(fitting, ()).folds
    assert fold.judge is fitting
    assert "suppressed_held_out" not in CALIBRATED.fit(fitting).record, "nothing was held out"


def test_rules_that_find_nothing_or_the_same_are_not_possible(subject: Subject) -> None:
    dealt = deal(seen(subject, Beside()), ())
    rules = [replace(RULE, count=count) for count in (4, 60, 64, 65)]
    most = max(one.qualifying(RULE) for part in (dealt.whole, *(f.learned for f in dealt.folds)) for one in part)
    assert 4 < most < 60 and dealt.possible(rules) == rules[:2], "the second takes all that there are"
    assert deal(seen(subject, Beside()), GIVEN).possible(rules) == rules[:1], "given ones are what they are"
    with pytest.raises(UsageError, match="every score is 0 or below"):
        dealt.possible([Rule(rate_ratio=1e9)])
    with pytest.raises(UsageError, match="give a smaller `count`"):
        dealt.possible(rules[-1:])


def test_shares_are_pooled_by_what_they_are_of() -> None:
    parts = [Outcome(0.5, 1.0, 10, 1), Outcome(0.0, 0.5, 30, 2), Outcome(None, None, 0, 0)]
    assert pooled(parts) == Outcome(5 / 40, 2 / 3, 40, 3)
    assert pooled(parts[2:]) == Outcome(None, None, 0, 0)
