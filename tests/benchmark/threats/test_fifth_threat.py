"""The story of a new threat model: it stands in this file alone, and goes from a suite to the board."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmark import evaluate
from benchmark.measure.group import Group
from benchmark.model.pack import Pack
from benchmark.model.passes import Writes
from benchmark.registry import TASKS, THREATS, register_threat
from benchmark.run.runner import Result
from benchmark.threats.stream import StreamThreat
from leaderboard.commands import report
from tests.tiny import ToyTask, suite_file
from tests.toy_run import DEFENSE

NAME = "greeting"
BUDGETS = [0.01, 0.03, 0.1, 0.4, 1.2]


class Greeting(StreamThreat):
    """The attacker writes at the first word of the prompt, before the defense."""

    role = "baseline"
    after = False

    def access(self, group: Group, pack: Pack) -> tuple[Pack, Writes]:
        first = int((~pack.text.special[0]).int().argmax())
        return pack, Writes(group.sites, first, 1, self.after)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    folder = tmp_path_factory.mktemp("greeting")
    register_threat(NAME)(Greeting)
    TASKS.register("toy")(ToyTask)
    search: dict[str, Any] = {"attack": "recovery", "restarts": 1, "search": {"steps": 10}}
    suite = suite_file(
        folder,
        tasks={
            "toy": {"site": "blocks.1.hook_resid_post", "budgets": {"before_edit": BUDGETS, NAME: BUDGETS}},
        },
        attacks=[{**search, "threat_model": "before_edit"}, {**search, "threat_model": NAME}],
    )
    yield evaluate(DEFENSE, suite=str(suite), output_dir=folder / "run")
    del THREATS.known[NAME], TASKS.known["toy"]


def rows(run: Result, threat: str = NAME, **where: Any) -> list[dict[str, Any]]:
    found = [r for r in run.rows.to_pylist() if r["threat_model"] == threat and r["status"] == "ok"]
    return [r for r in found if all(r[name] == value for name, value in where.items())]


def test_its_rows_are_measured_like_all_others(run: Result) -> None:
    attacked = rows(run, attack="recovery")
    assert {r["recovered"] for r in attacked} == {True, False}
    for r in attacked:
        assert r["recovered"] is (r["margin_attacked"] > 0) and r["delta_norm"] <= r["budget_abs"] * (1 + 1e-4)
    assert not any(r["recovered"] for r in rows(run, attack="zero")), "nothing written, nothing back"
    assert rows(run, attack="random-direction") and rows(run, attack="wrong-target")
    assert [r for r in attacked if r["sanity"]], "without bounds it must succeed: it says that it can"


def test_it_writes_where_it_says(run: Result) -> None:
    """The same budgets written at the readout do more: another place, not another name for the same one."""
    here = {(r["example_id"], r["budget_eps"]): r["margin_attacked"] for r in rows(run, attack="recovery")}
    there = {
        (r["example_id"], r["budget_eps"]): r["margin_attacked"] for r in rows(run, "before_edit", attack="recovery")
    }
    smallest = [key for key in here if key[1] == BUDGETS[0]]
    assert smallest and all(here[key] != there[key] for key in smallest)
    assert sum(there[key] > here[key] for key in smallest) > len(smallest) / 2


def test_the_run_says_what_it_is_and_the_board_scores_it(run: Result) -> None:
    header = json.loads((run.directory / "run.json").read_text())
    assert header["threats"][NAME] == {"unit": "residual", "role": "baseline", "reaches_less_than": None}
    assert NAME in header["tasks"]["toy"]["threat_models"]
    with (run.directory / "printed").open("w") as file:
        report(run.directory, Console(file=file, width=140), False)
    assert f"{NAME}: ." in (run.directory / "printed").read_text()
    board = json.loads((run.directory / "leaderboard.json").read_text())
    (entry,) = [e for e in board["suites"][0]["entries"] if e["defense"]["name"] == "sae-clamp"]
    result = entry["per_task"]["toy"]
    assert NAME in result["scored_threats"] and result["curves"][NAME]["threat_model"] == NAME
    areas = [result["curves"][name]["raw"]["aurc"]["value"] for name in result["scored_threats"]]
    assert result["score"]["value"] == pytest.approx(min(areas))
    assert result["aurc_baseline"]["value"] == pytest.approx(result["curves"][NAME]["raw"]["aurc"]["value"])


def test_an_unknown_threat_model_is_named(tmp_path: Path) -> None:
    from benchmark import UsageError
    from benchmark.suite_file import load_suite

    path = suite_file(tmp_path, tasks={"toy": {"site": "blocks.1.hook_resid_post", "budgets": {"greting": [0.1]}}})
    with pytest.raises(UsageError, match="budgets for greting; threat models are: after_edit, before_edit"):
        load_suite(str(path))
