"""What a cell reports: constraints that hold, replays of parts, the smallest rescaling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.ascent import Ascent
from attacks.recovery import Recovery
from attacks.zero import Zero
from benchmark.contracts.attack import Attack, Attempt
from benchmark.contracts.example import Example
from benchmark.measure.group import Group
from benchmark.measure.remeasure import VIOLATION, remeasure
from benchmark.model.passes import FullPass
from benchmark.sae.dictionary import open_dictionary
from benchmark.sae.parts import Parts
from benchmark.sae.parts import split as split_perturbation
from benchmark.search.constraint import Free
from benchmark.search.cross_layer import CrossLayer
from benchmark.search.oracle import select
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from tests.groups import AT, BUDGETS, HERE, SEARCH, WIDE, Rows, aimed, alone, cell, named


def test_recovered_fraction_is_clipped_and_overshoot_reported():
    assert behavior(2.0, -2.0, 0.0) == {"recovered_fraction": 0.5, "overshoot": 0.0}
    assert behavior(2.0, -2.0, 5.0) == {"recovered_fraction": 1.0, "overshoot": 1.5}
    assert behavior(2.0, -2.0, -9.0)["recovered_fraction"] == 0.0


# A recovery counts only together with its constraint.


@pytest.mark.parametrize(
    ("moved", "relative", "kept"),
    [(0.0, 0.0, True), (9.0, 0.03, True), (9.0, 0.031, False), (0.001, None, True), (0.02, None, False)],
)
def test_a_drift_past_the_tolerance_undoes_a_recovery(moved: float, relative: float | None, kept: bool) -> None:
    """Where nothing is active, drift is relative to the floor, here 0.5."""
    row: dict[str, object] = {"drift_abs": moved, "drift_rel": relative, "recovered": True, "outcome": "recovered"}
    found = _within_tolerance(row, 0.03, 0.5, counts=False)
    assert (found["recovered"], found["outcome"]) == ((True, "recovered") if kept else (False, "held"))
    assert (float(str(found["violation"])) <= VIOLATION) is kept
    failed = _within_tolerance({**row, "recovered": False, "outcome": "degenerate"}, 0.03, 0.5, counts=False)
    assert (failed["recovered"], failed["outcome"]) == (False, "degenerate"), "and it undoes nothing else"


def test_remeasured_rows_are_held_to_the_drift_that_was_measured(group: Group, searched: tuple[Rows, Any]) -> None:
    rows, deltas = searched
    example = named(group, next(row for row in rows if row["recovered"]))
    target = aimed(group, SEARCH, example)

    def measured(tolerance: float | None) -> list[dict[str, Any]]:
        return remeasure(group, target._replace(tolerance=tolerance), deltas[example.id], len(BUDGETS), PackSize(9))

    free = measured(None)
    (first, drift), *_ = [(i, float(row["drift_rel"])) for i, row in enumerate(free) if row["recovered"]]
    assert drift > 0.001
    wide, narrow = measured(1.01 * drift)[first], measured(0.99 * drift)[first]
    assert (wide["recovered"], wide["outcome"], wide["violation"]) == (True, "recovered", 0.0)
    assert (narrow["recovered"], narrow["outcome"]) == (False, "held")
    assert narrow["violation"] == pytest.approx(1 / 0.99 - 1, rel=1e-3)
    assert "first_success_eps" in wide and "first_success_eps" not in narrow
    for tolerance in (0.5 * drift, 2 * drift):
        for row, unheld in zip(measured(tolerance), free, strict=True):
            assert row["recovered"] is (unheld["recovered"] and float(row["drift_rel"]) <= tolerance)


@dataclass(frozen=True)
class Given(Attack):
    """Proposes the perturbations that it holds, whatever they violate."""

    name = "given"
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
        assert bound[i].get("min_eps") is None and "first_success_eps" not in bound[i]
        assert not any(name.startswith("attr_") for name in bound[i])
        assert bound[i]["margin_attacked"] == pytest.approx(free[i]["margin_attacked"], abs=1e-4)


def test_a_row_is_billed_for_its_own_search(group: Group, searched: tuple[Rows, Any]) -> None:
    held = [row for row in searched[0] if not row["recovered"]]
    assert held and all(row["steps"] == row["backwards"] == 10 and row["forwards"] > 10 for row in held)
    early = [row for row in searched[0] if row["recovered"]]
    assert min(row["steps"] for row in early) < 10, "what has reached the goal stops"
    assert all(row["steps"] == row["backwards"] == 0 < row["forwards"] for row in cell(group, Zero())[0])
    bound = Recovery(constraint="jacobian", threat_model="after_edit", restarts=1, ascent=Ascent(steps=3))
    for row in cell(replace(group, attribution=False), bound)[0]:
        assert row["steps"] <= 3 and row["backwards"] > row["steps"], "the constraint's passes are on the bill, too"


# Replays.


def replayed(row: dict[str, Any]) -> bool:
    return any(name.startswith("attr_") for name in row)


def test_only_the_first_recovered_row_of_an_example_is_replayed(group: Group, searched: tuple[Rows, Any]) -> None:
    rows, _ = searched
    seen: set[str] = set()
    for row in rows:
        first = row["recovered"] and row["example_id"] not in seen
        assert replayed(row) is first
        if row["recovered"]:
            seen.add(row["example_id"])
    assert seen and sum(row["recovered"] for row in rows) > len(seen), "some recover at two budgets"


def test_a_replayed_row_is_about_its_own_perturbation(group: Group, searched: tuple[Rows, dict[str, Tensor]]) -> None:
    rows, deltas = searched
    dictionary = open_dictionary(group.subject, HERE)
    checked = [row for row in rows if replayed(row)]
    for row in checked:
        delta = deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        # written before the edit: on the undefended stream, here
        h = readout_stream(group.subject, group.task, [named(group, row)], HERE)
        parts = split_perturbation(dictionary, range(12), h[:, None], delta)
        for name, part in zip(Parts._fields, parts, strict=True):
            assert row[f"attr_{name}_share"] == pytest.approx(float(part.norm() / delta.norm()), rel=1e-3, abs=1e-4)
    shares = {round(row["attr_other_share"], 4) for row in checked}
    assert len(shares) == len(checked) > 2


@pytest.mark.parametrize("attack", [WIDE, replace(SEARCH, goal="wrong")], ids=["random", "wrong target"])
def test_controls_are_not_replayed_and_have_no_smallest_rescaling(group: Group, attack: Attack) -> None:
    rows, _ = cell(group, attack, (3.0, 10.0))
    assert any(row["recovered"] for row in rows)
    assert not any(replayed(row) for row in rows) and all(row.get("min_eps") is None for row in rows)


def test_nothing_is_replayed_unless_it_is_asked_for(group: Group, searched: tuple[Rows, Any]) -> None:
    rows, _ = cell(replace(group, attribution=False), SEARCH)
    assert not any(replayed(row) for row in rows)
    assert [row["recovered"] for row in rows] == [row["recovered"] for row in searched[0]]


# The smallest rescaling.


def verdicts(group: Group, attack: Attack, example: Example, delta: Tensor) -> tuple[bool, bool]:
    """On a clean pass: the goal is reached with the slack that a search asks for, and it is reached at all."""
    target, row = aimed(group, attack, example), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        read = FullPass(group.subject, target.pack, group.edits, target.writes)(delta[None], row).read
    batch = select(target.batch, row)
    return bool(group.task.reached(read, batch)), bool(group.task.verdict(read, batch).margin > 0)


@pytest.mark.parametrize("model", ["after_edit", "before_edit"])
def test_the_smallest_rescaling_recovers_and_less_does_not(group: Group, model: ThreatModel) -> None:
    attack = replace(SEARCH, threat_model=model)
    rows, deltas = cell(replace(group, attribution=False), attack)
    inside = 0
    for row in rows:
        if row.get("min_eps") is None:  # also where it recovers by less than a search's slack
            continue
        assert row["recovered"]
        assert 0 < row["min_eps"] <= row["delta_eps"] * (1 + 1e-5)
        share, delta = row["min_eps"] / row["delta_eps"], deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        example = named(group, row)
        assert verdicts(group, attack, example, share * delta)[1]
        assert not verdicts(group, attack, example, 0.97 * share * delta)[0]
        inside += share < 0.95 and verdicts(group, attack, example, delta)[0]
    assert inside, "searches that stop at the edge would show nothing"
    assert any(not row["recovered"] for row in rows)


def test_the_smallest_rescaling_has_to_be_feasible(
    group: Group, searched: tuple[Rows, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that is left by shortening: half of the smallest rescalings are too short for it."""
    before = [row.get("min_eps") for row in searched[0]]
    found = sorted(eps for eps in before if eps is not None)
    least = found[len(found) // 2]
    shortest = least * group.scale.norms[AT]
    monkeypatch.setattr(Free, "feasible", lambda self, delta, rows=None: delta.flatten(1).norm(dim=1) >= shortest)
    rows, deltas = cell(replace(group, attribution=False), SEARCH)
    rescaled = [row for row in rows if row.get("min_eps") is not None]
    assert len(rescaled) > 1 and found[0] < 0.9 * least
    for row in rescaled:
        assert 0.999 * least <= row["min_eps"] <= row["delta_eps"] * (1 + 1e-5)
        delta = deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        assert verdicts(group, SEARCH, named(group, row), row["min_eps"] / row["delta_eps"] * delta)[1]


def test_under_jacobian_the_smallest_rescaling_keeps_the_constraint(group: Group) -> None:
    bound = Recovery(constraint="jacobian", threat_model="after_edit", restarts=1, ascent=Ascent(steps=10))
    rows, deltas = cell(replace(group, attribution=False), bound, (1.0, 3.0))
    recovered = [row for row in rows if row["recovered"]]
    assert recovered
    for row in recovered:
        example, level = named(group, row), (1.0, 3.0).index(row["budget_eps"])
        assert row["min_eps"] <= row["delta_eps"] * (1 + 1e-5) and not row["flags"].count("constraint-violated")
        scaled = deltas[row["example_id"]][[level]] * (row["min_eps"] / row["delta_eps"])
        (small,) = remeasure(group, aimed(group, bound, example), scaled, 1, PackSize(1))
        assert small["recovered"] and float(str(small["violation"])) <= VIOLATION
