"""The tasks of a run: two of one kind under free names, and those that come as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import Example, Split, UsageError, evaluate
from benchmark.registry import TASKS
from benchmark.run.prepare import prepare
from benchmark.run.request import Request
from benchmark.run.runner import Result
from tests.benchmark.run.equal_rows import same_results
from tests.tiny import SITE, ToyTask, suite_file
from tests.toy_run import DEFENSE, FEW

BUDGETS = {"before_edit": [0.1, 0.3]}
SEARCH = [{"attack": "recovery", "restarts": 1, "search": {"steps": 5}}]
Columns = list[dict[str, Any]]


@dataclass(frozen=True)
class Drawn(ToyTask):
    """The toy task with choices that a setting draws."""

    seed: int = 0

    def examples(self, split: Split) -> Sequence[Example]:
        return [self._drawn(e, number) for number, e in enumerate(super().examples(split))]

    def _drawn(self, example: Example, number: int) -> Example:
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        words = torch.randperm(40, generator=generator)[:3] + 10
        return replace(example, choices=tuple(f"w{int(word)}" for word in words))


def two(folder: Path, **settings: dict[str, Any]) -> str:
    """A suite of tasks of one kind, by name."""
    folder.mkdir(exist_ok=True)
    tasks = {name: {"kind": "drawn", "site": SITE, "budgets": BUDGETS, "settings": s} for name, s in settings.items()}
    return str(suite_file(folder, tasks=tasks, attacks=SEARCH))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Result]]:
    """Tasks of one kind in one suite, the first twice under two names; and the second alone."""
    TASKS.register("drawn")(Drawn)
    folder, few = tmp_path_factory.mktemp("two"), {**FEW, "attacks": None}
    suites = {
        "both": two(folder / "a", mine={"seed": 1}, yours={"seed": 2}, again={"seed": 1}),
        "alone": two(folder / "b", yours={"seed": 2}),
    }
    yield {name: evaluate(DEFENSE, suite=s, output_dir=folder / name, **few) for name, s in suites.items()}
    del TASKS.known["drawn"]


def of(result: Result, task: str) -> Columns:
    """A task's rows, without what is about the run or the name."""
    own = {"task", "run_id", "cell_key", "seconds", "peak_memory_mb", "threads"}
    return [{k: v for k, v in r.items() if k not in own} for r in result.rows.to_pylist() if r["task"] == task]


def test_two_tasks_of_one_kind_have_their_own_rows_fits_and_constants(runs: dict[str, Result]) -> None:
    both, alone = runs["both"], runs["alone"]
    assert of(both, "yours") == of(alone, "yours"), "whatever ran before it in the same process"
    mine, yours = of(both, "mine"), of(both, "yours")
    assert [r["example_id"] for r in mine] == [r["example_id"] for r in yours], "their examples may have equal ids"
    assert [r["margin_base"] for r in mine] != [r["margin_base"] for r in yours]
    cards = {p.name: json.loads(p.read_text()) for p in (both.directory / "fits").iterdir()}
    assert set(cards) == {f"{name}__sae-clamp.json" for name in ("mine", "yours", "again")}
    records = {card["task"]: card["record"] for card in cards.values()}
    assert records["mine"] == records["again"] != records["yours"], "a defense is fitted on each by itself"
    header = json.loads((both.directory / "run.json").read_text())["tasks"]
    assert header["mine"]["examples_hash"] != header["yours"]["examples_hash"]
    assert header["mine"]["ceilings"] != header["yours"]["ceilings"]


def test_the_same_data_under_another_name_gives_the_same_rows(runs: dict[str, Result]) -> None:
    both = runs["both"]
    assert of(both, "mine") == of(both, "again")
    keys = [{r["cell_key"] for r in both.rows.to_pylist() if r["task"] == task} for task in ("mine", "again")]
    assert keys[0] and not keys[0] & keys[1], "in cells of their own"


# --- --task file.py:Class

FILE = '''
from tests.tiny import ToyTask

class Mine(ToyTask):
    """The toy task from a file."""
'''


@pytest.fixture
def open_suite(suite: str, tmp_path: Path) -> str:
    """The toy suite, which says how tasks are run that it does not list."""
    toy: dict[str, Any] = {"site": SITE, "budgets": BUDGETS, "suffix_tokens": 2}
    return str(suite_file(tmp_path, tasks={"toy": toy}, other_tasks=toy, attacks=SEARCH))


def filed(folder: Path, name: str = "mine.py", text: str = FILE) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_task_from_a_file_is_run_as_the_suite_runs_others(open_suite: str, tmp_path: Path) -> None:
    few = {**FEW, "attacks": ["zero"]}
    named = f"{filed(tmp_path)}:Mine"
    result = evaluate(DEFENSE, suite=open_suite, tasks=[named, "toy"], output_dir=tmp_path / "run", **few)
    assert result.status == "complete" and of(result, "Mine") == of(result, "toy") != []
    assert json.loads((tmp_path / "run" / "run.json").read_text())["tasks"].keys() == {"Mine", "toy"}
    again = evaluate(DEFENSE, suite=open_suite, tasks=[named, "toy"], output_dir=tmp_path / "again", **few)
    same_results(result, again)


def test_its_text_is_its_version_and_its_place_is_not(open_suite: str, tmp_path: Path) -> None:
    def keys(file: str) -> set[str]:
        request = Request.make({"defense": "none", "suite": open_suite, "tasks": f"{file}:Mine"})
        return {cell.key for cell in prepare(request).plan.cells}

    (tmp_path / "elsewhere").mkdir()
    first = keys(filed(tmp_path))
    assert first == keys(filed(tmp_path / "elsewhere"))
    assert not first & keys(filed(tmp_path, text=f"{FILE}# told otherwise\n"))


def test_a_suite_that_runs_no_others_says_what_to_do(suite: str, tmp_path: Path) -> None:
    named = f"{filed(tmp_path)}:Mine"
    with pytest.raises(UsageError, match="the suite toy does not say how .* give it `other_tasks:` .*list the task"):
        evaluate(DEFENSE, suite=suite, tasks=[named], output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_tasks_of_one_name_are_refused(open_suite: str, tmp_path: Path) -> None:
    """One would take the place of the other in silence."""
    first, second = f"{filed(tmp_path)}:Mine", f"{filed(tmp_path, 'other.py')}:Mine"
    toy = f"{filed(tmp_path, 'toy.py', FILE.replace('Mine', 'toy'))}:toy"
    for tasks, name in (([first, second], "Mine"), ([toy, "toy"], "toy"), ([toy], "toy")):
        with pytest.raises(UsageError, match=f"two tasks here are named {name}; list this one"):
            evaluate(DEFENSE, suite=open_suite, tasks=tasks, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("reference", "message"),
    [("nowhere.py:Mine", "there is no file"), ("mine.py:Yours", "has no Task named 'Yours'; it has: Mine")],
)
def test_a_file_that_has_no_such_task_is_named(open_suite: str, tmp_path: Path, reference: str, message: str) -> None:
    filed(tmp_path)
    with pytest.raises(UsageError, match=message):
        evaluate(DEFENSE, suite=open_suite, tasks=[str(tmp_path / reference)], output_dir=tmp_path / "run")
