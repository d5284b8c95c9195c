"""Budgets that a run proposes: up to the ceiling and not beyond, geometric, few; none where there is no ceiling."""

from __future__ import annotations

import pytest

from benchmark.errors import UsageError
from benchmark.registry import THREATS, threat
from benchmark.run.proposal import MOST, budgets, grid, settled
from benchmark.suite import TaskSettings
from tests import tiny
from tests.tiny import SITE


@pytest.mark.parametrize("name", THREATS.names())
def test_a_grid_ends_at_its_ceiling_and_is_one_that_the_threat_model_takes(name: str) -> None:
    candidates = threat(name).ceilings
    for ceiling in candidates:
        found = grid(candidates, ceiling)
        threat(name).check(found)
        assert 1 <= len(found) <= MOST and 0.9 * ceiling < found[-1] <= ceiling
        assert all(float(f"{value:.2g}") == value for value in found)
    assert len(grid(candidates, candidates[-1])) > len(grid(candidates, candidates[0])) == 1
    assert grid(candidates, 0.0) == ()


def test_budgets_of_a_vector_are_geometric() -> None:
    found = grid(threat("before_edit").ceilings, 0.2016)
    ratios = [high / low for low, high in zip(found, found[1:], strict=False)]
    assert found == (0.02, 0.031, 0.05, 0.08, 0.12, 0.2) and max(ratios) / min(ratios) < 1.12


def settings(**grids: object) -> TaskSettings:
    return TaskSettings.model_validate({"site": SITE, "budgets": grids})


def test_budgets_that_are_given_stay_and_those_that_are_not_are_filled_in_or_left_out() -> None:
    asked = settings(before_edit=[0.3], after_edit="auto", soft_suffix="auto", token_suffix="auto")
    assert asked.unsettled == ["after_edit", "soft_suffix", "token_suffix"]
    ceilings = {"before_edit": 0.0, "after_edit": 0.0025, "soft_suffix": 0.0, "token_suffix": None}
    assert budgets(asked, ceilings) == {"before_edit": (0.3,), "after_edit": (0.0025,)}
    told: list[str] = []
    found = settled(tiny.viewed(), asked, ceilings, told.append)
    assert found.budgets == budgets(asked, ceilings) and not found.unsettled
    assert [line.split(":")[1] for line in told] == [" left out soft_suffix", " left out token_suffix"]
    assert "even 0.0025, the smallest" in told[0] and "no attack that searches under it" in told[1]


def test_a_task_without_any_budget_is_told() -> None:
    with pytest.raises(UsageError, match="task toy: no threat model has a budget .before_edit: even 0.0025.*give budg"):
        settled(tiny.viewed(), settings(before_edit="auto"), {"before_edit": 0.0}, lambda _: None)


@pytest.mark.parametrize("grid", [[], (), "AUTO", "automatic", [0.2, 0.1]])
def test_other_words_are_no_budgets(grid: object) -> None:
    with pytest.raises(ValueError, match="before_edit"):
        settings(before_edit=grid)
