"""Free vectors from search to row: constraints that hold, what a search cost, the smallest rescaling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.minimum_norm import MinimumNorm
from attacks.recovery import Recovery
from attacks.zero import Zero
from benchmark.contracts.attack import Attack, Attempt
from benchmark.contracts.example import Example
from benchmark.measure.group import Group
from benchmark.measure.remeasure import VIOLATION, remeasure
from benchmark.model.passes import FullPass
from benchmark.run.cell import run_cell
from benchmark.run.plan import Cell
from benchmark.search.ballot import SEARCH as SEARCH_ITSELF
from benchmark.search.constraint import Free
from benchmark.search.cross_layer import CrossLayer
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from benchmark.threats import campaign
from tests.groups import AT, BUDGETS, SEARCH, Far, Rows, aimed, alone, cell, named


@dataclass(frozen=True)
class Given(Attack):
    """Proposes the perturbations that it holds, whatever they violate."""

    name = "given"
    threat_model: str = "before_edit"
    delta: Tensor = torch.zeros(0)

    def run(self, problem: Problem) -> Attempt:
        return Attempt(self.delta, torch.ones(problem.rows, dtype=torch.bool))


def test_under_jacobian_a_cell_does_not_count_what_drifts(
    group: Group, searched: tuple[Rows, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the search's own projection fails: nothing of it is believed."""
    rows, deltas = searched
    chosen = next(row for row in rows if row["recovered"])["example_id"]
    one = alone(group, group.place[chosen])
    monkeypatch.setattr(CrossLayer, "restore", lambda self, delta, budget, rows=None: delta)
    monkeypatch.setattr(CrossLayer, "feasible", lambda self, delta, rows=None: torch.ones(len(delta), dtype=torch.bool))
    free, bound = (
        cell(one, Given(constraint=constraint, delta=deltas[chosen]))[0] for constraint in ("none", "jacobian")
    )
    assert [r["recovered"] for r in free] == [r["recovered"] for r in rows if r["example_id"] == chosen]
    loud = [i for i, row in enumerate(free) if row["recovered"]]
    assert loud and all(float(free[i]["drift_rel"]) > 0.03 for i in loud)
    for i in loud:
        assert (bound[i]["recovered"], bound[i]["outcome"]) == (False, "held")
        assert {"constraint-violated", "remeasurement-lost"} <= set(bound[i]["flags"])
        assert bound[i]["min_eps"] is None and bound[i]["first_success_eps"] is None
        assert not any(name.startswith("attr_") for name in bound[i])
        assert bound[i]["margin_attacked"] == pytest.approx(free[i]["margin_attacked"], abs=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_rows_do_not_depend_on_their_pack(group: Group, searched: tuple[Rows, dict[str, Tensor]], size: int) -> None:
    rows, deltas = searched
    done = run_cell(group, Cell("cell", "toy", "defense", SEARCH, BUDGETS), PackSize(size))
    again = [row.columns() for row in done.rows if row.outcome.suppressed]
    assert done.proposals.keys() == deltas.keys() and len(again) == len(rows)
    for example, delta in deltas.items():
        torch.testing.assert_close(done.proposals[example], delta, rtol=1e-3, atol=1e-3)
    for x, y in zip(rows, again, strict=True):
        assert x["recovered"] == y["recovered"] and x["steps"] == y["steps"]
        assert x["margin_attacked"] == pytest.approx(y["margin_attacked"], rel=1e-3, abs=1e-3)


def test_a_row_is_billed_for_its_own_search(group: Group, searched: tuple[Rows, Any]) -> None:
    steps: dict[str, int] = {}
    for row in searched[0]:
        assert row["steps"] == row["backwards"] < row["forwards"]
        steps[row["example_id"]] = steps.get(row["example_id"], 0) + row["steps"]
    assert max(steps.values()) == 10, "one search serves all budgets"
    early, _ = cell(group, SEARCH, (30.0, 60.0))
    assert any(row["recovered"] for row in early)
    assert all(row["steps"] < 10 for row in early if row["recovered"]), (
        "what the smallest budget allows ends the search"
    )
    assert all(row["steps"] == row["backwards"] == 0 < row["forwards"] for row in cell(group, Zero())[0])
    bound = Recovery(constraint="jacobian", threat_model="after_edit", restarts=1, search=MinimumNorm(steps=3))
    rows = cell(replace(group, attribution=False), bound)[0]
    for name in {row["example_id"] for row in rows}:
        spent = [sum(row[what] for row in rows if row["example_id"] == name) for what in ("steps", "backwards")]
        assert spent[0] <= 3 and spent[1] > spent[0], "the constraint's passes are on the bill, too"


class Twice(Recovery):
    """Proposes what it found, and in the second restart the same at the length of the budget."""

    def run(self, problem: Problem) -> Attempt:
        found = super().run(problem)
        delta = found.proposal.clone()
        delta[problem.restart > 0] = problem.restore(1e3 * delta)[problem.restart > 0]
        return found._replace(proposal=delta)


def test_what_the_clean_pass_denies_is_made_good_by_the_next_restart(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free text may be judged otherwise than a search sees it: here nothing below 0.9 of its budget is confirmed."""
    attack, at = Twice(restarts=2, search=SEARCH.search), (4.0,)
    plain, _ = cell(replace(group, attribution=False), attack, at)
    near = [row["example_id"] for row in plain if row["recovered"] and row["delta_eps"] < 0.8 * at[0]]
    assert near, "the smaller comes first"
    honest = campaign.remeasure

    def denying(*args: Any) -> list[Any]:
        return [row if row.size.eps > 0.9 * at[0] else row._replace(recovered=False) for row in honest(*args)]

    monkeypatch.setattr(campaign, "remeasure", denying)
    strict = {row["example_id"]: row for row in cell(replace(group, attribution=False), attack, at)[0]}
    assert all(strict[name]["delta_eps"] > 0.9 * at[0] and strict[name]["recovered"] for name in near)
    assert {strict[name]["found_by"] for name in near} == {SEARCH_ITSELF}, "and nobody else was asked"


# The smallest rescaling.


def verdicts(group: Group, attack: Attack, example: Example, delta: Tensor) -> tuple[bool, bool]:
    """On a clean pass: the goal is reached with the slack that a search asks for, and it is reached at all."""
    target, row = aimed(group, attack, example), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        read = FullPass(group.subject, target.pack, group.edits, target.writes)(delta[None], row).read
    task, criteria = group.task, target.criteria.rows(row)
    reached = task.readout.reached(task.verdict, read, criteria)
    return bool(reached), bool(task.verdict(read, criteria).margin > 0)


@pytest.mark.parametrize("model", ["after_edit", "before_edit"])
def test_the_smallest_rescaling_recovers_and_less_does_not(group: Group, model: str) -> None:
    attack = Far(threat_model=model, restarts=1, search=SEARCH.search)
    rows, deltas = cell(replace(group, attribution=False), attack)
    inside = 0
    for row in rows:
        if row["min_eps"] is None:  # also where it recovers by less than a search's slack
            continue
        assert row["recovered"]
        assert 0 < row["min_eps"] <= row["delta_eps"] * (1 + 1e-5)
        share, delta = row["min_eps"] / row["delta_eps"], deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        example = named(group, row)
        assert verdicts(group, attack, example, share * delta)[1]
        assert not verdicts(group, attack, example, 0.97 * share * delta)[0]
        inside += share < 0.95 and verdicts(group, attack, example, delta)[0]
    assert inside, "proposals at the edge would show nothing"
    assert any(not row["recovered"] for row in rows)


def test_the_smallest_rescaling_has_to_be_feasible(
    group: Group, searched: tuple[Rows, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that is left by shortening: half of the smallest rescalings are too short for it."""
    before = [row["min_eps"] for row in searched[0]]
    found = sorted(eps for eps in before if eps is not None)
    least = found[len(found) // 2]
    shortest = least * group.scale.norms[AT]
    monkeypatch.setattr(Free, "feasible", lambda self, delta, rows=None: delta.flatten(1).norm(dim=1) >= shortest)
    rows, deltas = cell(replace(group, attribution=False), SEARCH)
    rescaled = [row for row in rows if row["min_eps"] is not None]
    assert len(rescaled) > 1 and found[0] < 0.9 * least
    for row in rescaled:
        assert 0.999 * least <= row["min_eps"] <= row["delta_eps"] * (1 + 1e-5)
        delta = deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        assert verdicts(group, SEARCH, named(group, row), row["min_eps"] / row["delta_eps"] * delta)[1]


def test_under_jacobian_the_smallest_rescaling_keeps_the_constraint(group: Group) -> None:
    bound = Recovery(constraint="jacobian", threat_model="after_edit", restarts=1, search=MinimumNorm(steps=10))
    rows, deltas = cell(replace(group, attribution=False), bound, (1.0, 3.0))
    recovered = {row["example_id"]: row for row in reversed(rows) if row["recovered"]}
    assert recovered
    for row in recovered.values():
        example, level = named(group, row), (1.0, 3.0).index(row["budget_eps"])
        assert row["min_eps"] <= row["delta_eps"] * (1 + 1e-5) and not row["flags"].count("constraint-violated")
        scaled = deltas[row["example_id"]][[level]] * (row["min_eps"] / row["delta_eps"])
        (small,) = remeasure(group, aimed(group, bound, example), scaled, 1, PackSize(1))
        assert small.recovered and small.violation <= VIOLATION
