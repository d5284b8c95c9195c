"""What fails costs itself: rows of one pack, cells of one defense; and the same command tries exactly that again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from attacks.recovery import Recovery
from benchmark import Defense, FittedDefense, Fitting, evaluate
from benchmark.contracts.attack import Attempt
from benchmark.measure.group import Group
from benchmark.registry import ATTACKS
from benchmark.run.listener import Silent
from benchmark.run.runner import Result
from benchmark.search.problem import Problem
from tests.benchmark.run.equal_rows import same_results
from tests.groups import cell, halved_group, measured
from tests.tiny import ToyTask, subject
from tests.toy_run import DEFENSE

Rows = list[dict[str, Any]]


WORDS = {e.id: len(e.prompt.split()) for e in ToyTask().examples("test")}
"""Example -> words of its prompt."""


@dataclass(frozen=True)
class Flaky(Recovery):
    """Recovery that fails on prompts of some length, while it is told to."""

    broken: ClassVar[frozenset[int]] = frozenset()
    """Numbers of words, by which prompts come into packs."""
    goals: ClassVar[tuple[str, ...]] = ("behavior",)
    runs: ClassVar[list[frozenset[int]]] = []
    """What was searched at once: numbers of words."""

    def run(self, problem: Problem) -> Attempt:
        words = frozenset(WORDS[key.rpartition("|")[2]] for key in problem._keys)
        self.runs.append(words)
        if self.goal in self.goals and words & self.broken:
            raise ZeroDivisionError(f"{min(words & self.broken)} words are too much")
        return super().run(problem)


@pytest.fixture(autouse=True)
def flaky(suite: str) -> Iterator[type[Flaky]]:
    """The attack, registered and in order."""
    ATTACKS.register("flaky")(Flaky)
    Flaky.broken, Flaky.goals = frozenset(), ("behavior",)
    yield Flaky
    del ATTACKS.known["flaky"]


class Heard(Silent):
    """Which cells were run, and which were taken from the last time."""

    def __init__(self) -> None:
        self.run: list[str] = []
        self.resumed: list[str] = []

    def finished(self, cell: Any, rows: Any, resumed: bool) -> None:
        (self.resumed if resumed else self.run).append(f"{cell.attack.title}/{cell.defense}")


def attacked(suite: str, folder: Path, listener: Silent | None = None) -> Result:
    Flaky.runs.clear()
    return evaluate(DEFENSE, suite=suite, output_dir=folder, attacks=["flaky"], controls=False, listener=listener)


def of(result: Result, attack: str) -> Rows:
    return [r for r in result.rows.to_pylist() if r["attack"] == attack and r["suppressed"]]


def status(result: Result) -> str:
    return json.loads((result.directory / "run.json").read_text())["status"]


def errors(result: Result) -> list[dict[str, str]]:
    lines = (result.directory / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "error"]


@pytest.fixture(scope="module")
def sound(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """What the attack finds when nothing fails."""
    ATTACKS.register("flaky")(Flaky)
    Flaky.broken = frozenset()
    yield attacked(suite, tmp_path_factory.mktemp("sound") / "run")


def words_of(rows: Rows) -> list[int]:
    """Numbers of words of the prompts, ascending."""
    return sorted({WORDS[row["example_id"]] for row in rows})


def test_an_attack_that_fails_on_a_pack_leaves_rows_that_say_so_and_the_run_goes_on(
    suite: str, sound: Result, tmp_path: Path
) -> None:
    expected = of(sound, "flaky")
    shorter, second, *_ = words_of(expected)
    Flaky.broken = frozenset({second})
    found = attacked(suite, tmp_path / "run")
    together, *alone = [words for words in Flaky.runs if second in words]
    assert shorter in together and frozenset({second}) in alone, "first all at once, then each length alone"
    rows = of(found, "flaky")
    assert found.status == status(found) == "partial"
    for row, other in zip(rows, expected, strict=True):
        if WORDS[row["example_id"]] != second:
            assert (row["outcome"], row["margin_attacked"]) == (
                other["outcome"],
                pytest.approx(other["margin_attacked"], abs=1e-3),
            )
            continue
        assert (row["status"], row["error"]) == ("error", f"ZeroDivisionError: {second} words are too much")
        assert row["recovered"] is False and row["outcome"] is None
        assert row["margin_attacked"] is row["delta_norm"] is row["drift_abs"] is row["steps"] is None
    (event,) = errors(found)
    assert event["what"] == "toy x sae-clamp x flaky: failed on 1 packs"
    assert "Traceback" in event["traceback"] and "in run\n" in event["traceback"]
    assert event["error"] == f"ZeroDivisionError: {second} words are too much"
    private = list((tmp_path / "run" / "private").iterdir())
    assert len(private) == 4, "the other cells, and the proposals of the other packs"


def test_the_same_command_again_runs_exactly_the_failed_cells(suite: str, sound: Result, tmp_path: Path) -> None:
    Flaky.broken = frozenset(words_of(of(sound, "flaky"))[:1])
    first, second, third = Heard(), Heard(), Heard()
    assert attacked(suite, tmp_path / "run", first).status == "partial"
    assert attacked(suite, tmp_path / "run", second).status == "partial", "nothing has changed"
    Flaky.broken = frozenset()
    again = attacked(suite, tmp_path / "run", third)
    cells = ["wrong-target/sae-clamp", "flaky/sae-clamp", "random-direction/sae-clamp", "zero/sae-clamp"]
    assert first.run == cells and not first.resumed
    assert second.run == third.run == ["flaky/sae-clamp"]
    assert second.resumed == third.resumed == [cell for cell in cells if cell != "flaky/sae-clamp"]
    assert again.status == status(again) == "complete"
    same_results(sound, again)


def test_a_wrong_target_that_failed_changes_no_row_of_the_attack(suite: str, sound: Result, tmp_path: Path) -> None:
    broken = words_of(of(sound, "flaky"))[1]
    Flaky.broken, Flaky.goals = frozenset({broken}), ("wrong",)
    found = attacked(suite, tmp_path / "run")
    same = [{**row, "run_id": "", "seconds": 0.0} for row in of(found, "flaky")]
    assert same == [{**row, "run_id": "", "seconds": 0.0} for row in of(sound, "flaky")]
    failed = [r for r in of(found, "wrong-target") if r["status"] == "error"]
    assert failed and {WORDS[r["example_id"]] for r in failed} == {broken}


@dataclass(frozen=True)
class Broken(Defense):
    """Fails when it is used, not before."""

    name = "broken"

    def fit(self, fitting: Fitting) -> FittedDefense:
        raise RuntimeError("an honest bug")


def test_a_failing_defense_costs_its_own_cells_only(suite: str, tmp_path: Path) -> None:
    result = evaluate([Broken(), DEFENSE], suite=suite, output_dir=tmp_path / "run", attacks=["zero"])
    assert result.status == "partial"
    assert set(result.rows["defense"].to_pylist()) == {"sae-clamp", "none", "random-clamp"}
    (event,) = errors(result)
    assert "an honest bug" in event["error"] and "in fit\n" in event["traceback"]


# --- cells alone


@pytest.fixture(scope="module")
def group() -> Group:
    return halved_group(subject(), ToyTask())


class Unteachable(Flaky):
    """Learns nothing but that it cannot."""

    learns = True

    def trained(self, problems: Sequence[Problem]) -> Flaky:
        raise RuntimeError(f"no lesson in {len(problems)} packs")


def test_an_attack_that_fails_while_it_learns_fails_on_every_example(group: Group) -> None:
    done = measured(group, Unteachable())
    suppressed = [row for row in done.rows if row.outcome.suppressed]
    assert suppressed and {(r.outcome.status, r.outcome.recovered) for r in suppressed} == {("error", False)}
    assert {r.outcome.error for r in suppressed} == {"RuntimeError: no lesson in 3 packs"}
    assert len(done.failures) == 1 and not done.proposals
    others = [row for row in done.rows if not row.outcome.suppressed]
    assert others and {(r.outcome.status, r.outcome.error) for r in others} == {("not_run", None)}


class Narrow(Recovery):
    """Has no memory for packs of more than two examples."""

    def run(self, problem: Problem) -> Attempt:
        if problem.grid[0] > 2:
            raise torch.OutOfMemoryError("forced")
        return super().run(problem)


class Nowhere(Recovery):
    """Has no memory at all."""

    def run(self, problem: Problem) -> Attempt:
        raise torch.OutOfMemoryError("forced")


def test_a_pack_that_does_not_fit_into_memory_is_taken_in_halves(group: Group) -> None:
    (rows, deltas), (again, proposals) = (cell(group, kind(restarts=1)) for kind in (Recovery, Narrow))
    assert proposals.keys() == deltas.keys() and len(deltas) > 6
    for row, other in zip(rows, again, strict=True):
        assert row["recovered"] == other["recovered"] and row["status"] == other["status"] == "ok"
        assert row["margin_attacked"] == pytest.approx(other["margin_attacked"], abs=1e-3)
    done = measured(group, Nowhere(restarts=1))
    assert not done.proposals and done.failures, "a single example that does not fit is a failure"
