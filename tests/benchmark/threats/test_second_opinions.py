"""Second opinions: heard where the search failed, within budget and constraint; what it recovered alone stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.recovery import Recovery
from benchmark.contracts.attack import Attempt
from benchmark.contracts.defense import Where
from benchmark.contracts.protocol import Protocol
from benchmark.measure.group import Group
from benchmark.measure.replay import remember
from benchmark.measure.slopes import doubts, mistrusted
from benchmark.search.problem import Problem
from tests.groups import AT, BUDGETS, SEARCH, Rows, alone, cell

ALONE = "seconds", "forwards", "found_by", "slope_ratio", "slope_gap", "call_path_gap"
"""What may differ where others are heard."""


class SearchOnly(Protocol):
    """Nobody else is heard, and no gradient is looked at again."""

    ranked = False


class Flat:
    """An edit whose values are true and whose gradient is that of something else."""

    position_wise = True

    def __init__(self, edit: Any) -> None:
        self.edit = edit

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return self.edit(h, where).detach() + (h - h.detach()).roll(7, -1)


def lying(group: Group) -> Group:
    return replace(group, attribution=False, edits={b: Flat(edit) for b, edit in group.edits.items()})


@pytest.fixture(scope="module")
def honest(group: Group) -> Group:
    return replace(group, attribution=False)


@pytest.fixture(scope="module")
def before(honest: Group) -> tuple[Rows, dict[str, Tensor]]:
    return cell(honest, SEARCH)


def recovered(rows: Rows) -> set[tuple[str, float]]:
    return {(row["example_id"], row["budget_eps"]) for row in rows if row["recovered"]}


def test_what_the_search_recovers_alone_is_unchanged(honest: Group, before: tuple[Rows, Any]) -> None:
    unheard, _ = cell(replace(honest, protocol=SearchOnly()), SEARCH)
    by_search = [(a, b) for a, b in zip(unheard, before[0], strict=True) if a["recovered"]]
    assert by_search
    for a, b in by_search:
        assert b["found_by"] == "search" and {k: v for k, v in a.items() if k not in ALONE} == {
            k: v for k, v in b.items() if k not in ALONE
        }
    assert recovered(unheard) <= recovered(before[0])


def test_an_honest_edit_is_looked_at_and_believed(before: tuple[Rows, Any]) -> None:
    sampled = [row for row in before[0] if row.get("slope_gap") is not None]
    assert sampled and len(sampled) < len(before[1]), "one row of some of the examples"
    assert all(row["slope_ratio"] == pytest.approx(1, abs=0.02) for row in sampled)
    assert all(row["slope_gap"] < 0.1 and row["call_path_gap"] < 1e-3 for row in sampled)
    assert not any({"gradient-mismatch", "depends-on-caller"} & set(row["flags"]) for row in before[0])


def test_a_false_gradient_is_noticed_and_another_search_begins(honest: Group, before: tuple[Rows, Any]) -> None:
    rows, _ = cell(lying(honest), SEARCH)
    sampled = [row for row in rows if row.get("slope_gap") is not None]
    assert sampled and all("gradient-mismatch" in row["flags"] for row in sampled)
    assert not any("depends-on-caller" in row["flags"] for row in rows), "it lies to everybody alike"
    assert any(row["found_by"] == "straight-through" for row in rows)
    unheard, _ = cell(replace(lying(honest), protocol=SearchOnly()), SEARCH)
    assert len(recovered(unheard)) < len(recovered(rows))
    assert recovered(rows) <= recovered(before[0]), "the identity's gradient is worse than the true one"


@pytest.mark.parametrize("constraint", ["none", "encoder"])
def test_nobody_exceeds_the_budget_or_the_constraint(honest: Group, constraint: Any) -> None:
    rows, _ = cell(lying(honest), replace(SEARCH, constraint=constraint, threat_model="before_edit"))
    found = {row["found_by"] for row in rows if row["recovered"]}
    assert found - {"search"}, "others found something"
    for row in rows:
        assert row["delta_norm"] <= row["budget_abs"] * (1 + 1e-4)
        assert not {"constraint-violated", "budget-violated"} & set(row["flags"])


def test_who_finds_what_does_not_depend_on_the_pack(honest: Group, before: tuple[Rows, Any]) -> None:
    for i in range(len(honest.examples)):
        one = alone(honest, i)
        if not one.attacked:
            continue
        rows, _ = cell(one, SEARCH)
        whole = [row for row in before[0] if row["example_id"] == honest.examples[i].id]
        for a, b in zip(rows, whole, strict=True):
            assert (a["found_by"], a["recovered"]) == (b["found_by"], b["recovered"])
            assert ("slope_gap" in a, a["flags"]) == ("slope_gap" in b, b["flags"])


class Still(Recovery):
    """Looks at its gradient, and does not move."""

    def run(self, problem: Problem) -> Attempt:
        problem.slope(problem.zeros())
        return Attempt(problem.zeros(), torch.zeros(problem.rows, dtype=torch.bool))


def test_without_a_gradient_the_way_back_is_still_found(honest: Group) -> None:
    """Behind the edit of one site the way back undoes the defense whole: no search needs more."""
    still = Still(threat_model="after_edit", restarts=1)
    rows, _ = cell(honest, still, (0.5, 30.0))
    large = [row for row in rows if row["budget_eps"] == 30.0]
    assert all(row["recovered"] for row in large) and {"way-back"} <= {row["found_by"] for row in large}
    unheard, _ = cell(replace(honest, protocol=SearchOnly()), still, (0.5, 30.0))
    assert not recovered(unheard)


def test_what_was_found_behind_the_edit_is_written_in_front_of_it(honest: Group) -> None:
    still = Still(restarts=1)
    found = cell(honest, replace(SEARCH, threat_model="after_edit"))[1]
    shown = replace(honest)  # a group of its own: others have seen nothing
    remember(shown, "after_edit", found)
    with_it, without = (cell(group, still)[0] for group in (shown, honest))
    assert any(row["found_by"] == "replay" for row in with_it)
    assert not any(row["found_by"] == "replay" for row in without)
    assert recovered(without) <= recovered(with_it)


def test_the_worse_of_two_places_counts_row_by_row(honest: Group) -> None:
    home = AT - 1
    both = replace(honest, home=home)
    there, _ = cell(both.at_home, SEARCH)
    here, _ = cell(honest, SEARCH)
    rows, deltas = cell(both, SEARCH)
    assert recovered(rows) == recovered(here) | recovered(there)
    sites = {row["written_sites"] for row in rows}
    assert len(sites) == 2 and {row["written_sites"] for row in here} == {(str(next(iter(honest.fitted.edits))),)}
    for row in rows:
        delta = deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        assert delta.shape[0] == 2, "a line for each site of any place"
        used = delta.flatten(1).norm(dim=1)
        assert int((used > 0).sum()) <= 1 and float(used.sum()) == pytest.approx(row["delta_norm"], rel=1e-5)
        assert row["delta_eps"] <= row["budget_eps"] * (1 + 1e-4)
    assert {len(r["written_sites"]) for r in cell(both, replace(SEARCH, threat_model="after_edit"))[0]} == {1}


def test_who_looks_at_the_grad_mode_is_noticed(honest: Group) -> None:
    class Shy(Flat):
        def __call__(self, h: Tensor, where: Where) -> Tensor:
            changed = self.edit(h, where)
            return changed + 3.0 if torch.is_grad_enabled() else changed

    shy = replace(honest, edits={b: Shy(edit) for b, edit in honest.edits.items()})
    flagged = [row for row in cell(shy, SEARCH)[0] if row.get("slope_gap") is not None]
    assert flagged and all("depends-on-caller" in row["flags"] for row in flagged)


def test_a_single_kink_misleads_nobody() -> None:
    from benchmark.contracts.row import Slopes

    sound, kink = (Slopes(slope_ratio=ratio, slope_gap=0.0, call_path_gap=0.0) for ratio in (1.0, -1.0))
    assert not mistrusted({0: sound, 1: kink}) and mistrusted({0: kink, 1: kink, 2: sound}) and not mistrusted({})
    assert doubts(sound) == doubts(None) == () and doubts(kink) == ("gradient-mismatch",)
