"""What a run will cost is counted as it is spent, a probe changes nothing, and an estimate grows with its work."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import evaluate
from benchmark.contracts.attack import Attack
from benchmark.measure.group import Group
from benchmark.model.pack import make_packs
from benchmark.registry import ATTACKS, threat
from benchmark.run import probe as probing
from benchmark.run.bill import Bill, compared, foretold, spoken
from benchmark.run.estimate import Estimate, estimate
from benchmark.run.listener import Silent
from benchmark.run.meter import Late, metered, spent
from benchmark.run.prepare import Prepared, prepare
from benchmark.run.probe import Probe, probe
from benchmark.run.rehearsal import Pace, pace, rehearse
from benchmark.run.request import Request
from benchmark.run.runner import Result
from benchmark.search.pack_size import PackSize
from tests.benchmark.run.equal_rows import same_results
from tests.groups import SEARCH, WIDE
from tests.toy_run import DEFENSE, FEW

BUDGETS = (1e-7, 2e-7)
"""So small that no search can stop early."""
ENOUGH = 60.0
"""Seconds in which all of the toy suite is tried."""


@pytest.fixture(scope="module")
def prepared(suite: str) -> Prepared:
    return prepare(Request.make({"defense": DEFENSE, "suite": suite}))


@pytest.fixture(scope="module")
def seen(prepared: Prepared) -> Probe:
    return probe(prepared, ENOUGH)


def problem_of(group: Group, attack: Attack) -> Any:
    (pack, *_) = make_packs(group.subject, group.task, group.attacked[:1], 1)
    return threat(attack.threat_model).problem(group, attack.terms(0), BUDGETS, pack, PackSize(256))


@pytest.mark.parametrize("attack", [SEARCH, replace(SEARCH, restarts=3), WIDE], ids=["one", "restarts", "random"])
def test_what_is_counted_without_the_model_is_what_is_asked_of_it(attack: Attack, group: Group) -> None:
    counted, spending = rehearse(problem_of(group, attack), attack, len(BUDGETS)), problem_of(group, attack)
    spending.evaluate(attack.run(spending).proposal)
    assert counted.rows == spending.rows
    assert counted.slopes == int(spending.backwards.sum())
    assert counted.forwards == int((spending.forwards - spending.backwards).sum())


def test_a_rehearsal_runs_no_layer_and_bills_nobody(group: Group) -> None:
    problem = problem_of(group, SEARCH)
    with metered([group.subject]) as meter:
        rehearse(problem, SEARCH, len(BUDGETS))
    assert meter.work == 0 and not problem.forwards.any()
    with metered([group.subject]) as meter:
        problem.evaluate(problem.zeros())
    assert meter.work > 0, "and what runs is seen"


def test_a_search_for_one_budget_at_a_time_is_counted_for_each(prepared: Prepared, seen: Probe) -> None:
    gcg = next(a for a in seen.tasks["toy"].asked if isinstance(a, ATTACKS.get("gcg")))
    assert seen.tasks["toy"].asked[gcg].slopes == 2 * gcg.steps, "two budgets, each with its steps"  # type: ignore


def test_a_pass_costs_something_and_holds_memory(group: Group) -> None:
    found = pace(problem_of(group, SEARCH), 64)
    assert found.each >= 0 and found.row >= 0 and found.each + found.row > 0
    assert found.forward > 0 and found.held > group.subject.d_model * 4


def test_the_meter_stops_a_block_in_time_and_leaves_no_hook(group: Group) -> None:
    hooks = dict(torch.nn.modules.module._global_forward_pre_hooks)
    with metered([group.subject]) as meter:
        meter.until = time.perf_counter() - 1
        with pytest.raises(Late):
            problem_of(group, SEARCH)
    assert dict(torch.nn.modules.module._global_forward_pre_hooks) == hooks
    with metered([group.subject]) as meter, spent(meter) as cost:
        problem_of(group, SEARCH)
    assert cost.work > 0 and cost.seconds > 0


def test_everything_of_the_plan_is_tried_in_enough_time(prepared: Prepared, seen: Probe) -> None:
    found = seen.tasks["toy"]
    assert seen.notes == [] and seen.token > 0
    assert set(found.fits) == set(prepared.plan.defenses)
    assert set(found.asked) == {c.attack for c in prepared.plan.cells if c.split == "test"}


def test_what_there_was_no_time_for_is_told_and_is_no_error(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "WORTH", 0)
    found = estimate(prepared, probe(prepared, 0.0))
    assert found.left_out and found.rows == estimate(prepared, Probe(tasks=probe(prepared, 0.0).tasks)).rows > 0
    assert foretold(found.describe()).startswith("no estimate of the time for ")
    assert found.describe()["seconds"]["toy"]["fits"] is None, "what is not known is no zero"


def test_a_probe_of_slow_passes_takes_longer(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "WORTH", 10**9)
    found = probe(prepared, 0.0)
    assert found.notes == [] and set(found.tasks["toy"].asked) and not found.tasks["toy"].fits
    told = estimate(prepared, found).describe()
    assert told["seconds"]["toy"]["fits"] is None and foretold(told).startswith("estimated at least ")


def test_a_defense_that_fails_on_a_few_examples_costs_the_others_nothing(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = probing.make_group

    def fails(undefended: Any, named: Any) -> Any:
        if named.defense == DEFENSE:
            raise RuntimeError("too few")
        return honest(undefended, named)

    monkeypatch.setattr(probing, "make_group", fails)
    found = probe(prepared, ENOUGH)
    assert len(found.notes) == 1 and "too few" in found.notes[0]
    assert "none" in found.tasks["toy"].fits


def test_an_estimate_grows_with_its_rows_and_its_pace(prepared: Prepared, seen: Probe) -> None:
    whole, half = (
        estimate(prepared, seen),
        estimate(prepared, seen, prepared.plan.cells[: len(prepared.plan.cells) // 2]),
    )
    assert 0 < half.rows < whole.rows and 0 < half.total < whole.total
    slow = {model: Pace(10 * p.each, 10 * p.row, p.forward, p.held) for model, p in seen.tasks["toy"].pace.items()}
    task = replace(seen.tasks["toy"], pace=slow)
    slower = estimate(prepared, replace(seen, tasks={"toy": task}))
    assert slower.seconds["toy"]["attacks"] > 2 * whole.seconds["toy"]["attacks"]
    assert slower.seconds["toy"]["fits"] == whole.seconds["toy"]["fits"]


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def watched(suite: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, list[str]]:
    heard = Notes()
    folder = tmp_path_factory.mktemp("watched") / "run"
    return evaluate(DEFENSE, suite=suite, output_dir=folder, listener=heard, probe_s=ENOUGH, **FEW), heard.lines


def header(result: Result) -> dict[str, Any]:
    return json.loads((result.directory / "run.json").read_text())


def test_a_run_compares_its_estimate_with_what_it_took(watched: tuple[Result, list[str]]) -> None:
    found, lines = watched
    told = header(found)
    assert told["estimate"]["rows"] == told["took"]["rows"] == found.rows.num_rows
    assert told["estimate"]["backwards"] >= told["took"]["backwards"] > 0
    assert set(told["took"]["seconds"]["toy"]) == {"constants", "fits", "attacks", "controls"}
    assert all(seconds > 0 for seconds in told["took"]["seconds"]["toy"].values())
    assert lines[0].startswith("estimated ") and "took" not in lines[0]
    assert lines[-1].startswith("estimated ") and "took" in lines[-1]


def test_a_probe_changes_no_result(watched: tuple[Result, list[str]], suite: str, tmp_path: Path) -> None:
    plain = evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "b", **FEW)
    same_results(watched[0], plain)
    assert header(plain)["estimate"] is None and header(plain)["took"]["rows"] == plain.rows.num_rows


def test_what_a_run_took_stays_when_there_is_nothing_left_to_do(watched: tuple[Result, list[str]], suite: str) -> None:
    before, heard = header(watched[0]), Notes()
    assert before["took"]["total_seconds"] > 0
    again = evaluate(DEFENSE, suite=suite, output_dir=watched[0].directory, listener=heard, probe_s=ENOUGH, **FEW)
    assert {name: header(again)[name] for name in ("estimate", "took")} == {
        name: before[name] for name in ("estimate", "took")
    }
    assert heard.lines == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.7, "1 min 0 s"), (290, "4 min 50 s"), (7300, "2 h 1 min")]
)
def test_times_are_said_in_words(seconds: float, said: str) -> None:
    assert spoken(seconds) == said


def test_the_last_line_says_both() -> None:
    expected, took = Estimate(), Bill()
    expected.add("a", "fits", 240.0)
    took.add("a", "attacks", 290.0)
    assert compared(expected.describe(), took.describe()) == "estimated 4 min 0 s, took 4 min 50 s"
    expected.left_out.append("something")
    assert compared(expected.describe(), took.describe()) == "estimated at least 4 min 0 s, took 4 min 50 s"
