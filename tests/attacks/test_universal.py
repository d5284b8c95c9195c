"""What is learned on fit, and that nothing else is looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attacks.recovery import Recovery
from attacks.universal import Universal
from benchmark.contracts.attack import Attack
from benchmark.errors import UsageError
from benchmark.measure.group import Group
from benchmark.run.training import on_fit, train
from benchmark.search.pack_size import PackSize
from tests.attacks.linear import EXAMPLES, D, make
from tests.groups import cell, halved_group, measured
from tests.tiny import ToyTask, subject

BUDGETS = (0.5, 2.0, 8.0)


@pytest.fixture(scope="module")
def group() -> Group:
    return halved_group(subject(), ToyTask())


def share(group: Group, attack: Attack) -> list[float]:
    rows, _ = cell(group, attack, BUDGETS)
    hit = {b: [row["recovered"] for row in rows if row["budget_eps"] == b] for b in BUDGETS}
    return [sum(found) / len(found) for found in hit.values()]


def test_one_direction_that_serves_all_is_found() -> None:
    """Every example asks for the same direction, at a cost of its own."""
    made = make([0.01, 10.0])
    made.run.slopes = torch.randn(D, generator=torch.Generator().manual_seed(3)).expand(EXAMPLES, D)
    learned = Universal(steps=20).trained([made.problem])
    reached = made.problem.evaluate(learned.run(made.problem).proposal).reached.view(EXAMPLES, 2)
    assert reached[:, 1].all() and not reached[:, 0].any()


def test_all_rows_of_a_budget_share_one_perturbation_within_it() -> None:
    made = make([0.1, 2.0], restarts=2)
    delta = Universal(steps=5, restarts=2).trained([made.problem]).run(made.problem).proposal
    by_budget = delta.view(EXAMPLES, 2, 2, -1)
    assert (by_budget == by_budget[:1, :, :1]).all()
    assert (delta.flatten(1).norm(dim=1) <= made.problem.budget * (1 + 1e-5)).all()


def test_a_search_for_each_example_does_at_least_as_well(group: Group) -> None:
    shared, own = share(group, Universal(steps=10)), share(group, Recovery(restarts=1))
    assert all(a <= b for a, b in zip(shared, own, strict=True)) and own[-1] > 0


def test_nothing_of_test_is_learned_from(group: Group) -> None:
    poisoned = replace(
        group,
        examples=[replace(e, prompt="w7 w7 w7 w7 w7 w7") for e in group.examples],
        eligible=~group.eligible,
        saturation=-group.saturation,
    )
    clean, other = (train(g, Universal(steps=3), BUDGETS, 0, PackSize(256)) for g in (group, poisoned))
    assert torch.equal(clean.delta, other.delta)  # type: ignore[attr-defined]
    assert float(clean.delta.norm()) > 0  # type: ignore[attr-defined]
    assert {e.id.split("/")[1] for e in on_fit(group).examples} == {"fit"}


def test_it_has_to_be_learned_before_it_is_run() -> None:
    with pytest.raises(UsageError, match="learned"):
        Universal().run(make([1.0]).problem)


def test_where_nothing_can_be_learned_rows_say_why(group: Group) -> None:
    rows = measured(replace(group, perturbed="all"), Universal(), (0.1,)).rows
    attacked = [row.outcome for row in rows if row.outcome.suppressed]
    assert attacked and all(o.status == "not_run" and "has their length" in (o.error or "") for o in attacked)
