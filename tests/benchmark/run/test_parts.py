"""What makes a cell another one: code, settings and data of everything in it; and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from benchmark import Defense, FittedDefense, Fitting, RunDirectoryError, UsageError, evaluate
from benchmark.contracts.example import Example, Split
from benchmark.registry import JUDGES, SOURCES
from benchmark.run import parts
from benchmark.run.differences import differences
from benchmark.run.plan import Plan, make_plan
from benchmark.run.prepare import prepare, view
from benchmark.run.request import Request
from benchmark.run.task_view import TaskView
from benchmark.spec import Named, resolve_attack, resolve_defense, resolve_task
from benchmark.suite import Suite
from benchmark.suite_file import load_suite
from defenses.none import NoDefense
from leaderboard.doubt.verdicts import _run_reasons
from leaderboard.rows.run import read_run
from tests.benchmark.test_code import NOTEBOOK
from tests.benchmark.test_imports import written
from tests.tiny import ToyTask, suite_file

ATTACK = """
from dataclasses import dataclass
from attacks.zero import Zero
from helper import SIZE

@dataclass(frozen=True)
class Mine(Zero):
    threat_model: str = "before_edit"
    role = "attack"
    def budgets(self, grid):
        return [b * 1.0 for b in grid]
"""
DEFENSE = """
from benchmark import Defense, FittedDefense

class Mine(Defense):
    def fit(self, fitting):
        from helper import SIZE
        return FittedDefense({})
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return load_suite(str(suite_file(tmp_path_factory.mktemp("parts"))))


def plan(suite: Suite, defense: Any = None, attack: Any = "zero", task: Any = None, **changes: Any) -> Plan:
    given: dict[str, Any] = {"weights_sha": "w", "dtype": "float32", "seed": 0, **changes}
    named = resolve_defense(defense) if isinstance(defense, str) else Named("mine", defense or NoDefense())
    attacks = [replace(resolve_attack(attack), threat_model="before_edit")]
    return make_plan(suite, {"toy": TaskView(task or ToyTask(), "toy")}, [named], [], attacks=attacks, **given)


def keys(made: Plan) -> set[str]:
    return {cell.key for cell in made.cells}


def told(one: Plan, other: Plan) -> str:
    """What differs, after both were written down and read again."""
    return "; ".join(differences(json.loads(json.dumps(one.inputs)), other.inputs))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A defense and an attack by path, and what both import from beside them."""
    written(tmp_path / "helper.py", "SIZE = 1\n")
    written(tmp_path / "attack.py", ATTACK)
    written(tmp_path / "defense.py", DEFENSE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("part", ["attack", "defense"])
@pytest.mark.parametrize("beside", [False, True])
def test_an_edited_file_is_another_cell_and_is_named(
    suite: Suite, files: Path, part: str, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    def made() -> Plan:
        monkeypatch.delitem(sys.modules, "helper", raising=False)  # as in a new process
        return plan(suite, **{part: f"{files / f'{part}.py'}:Mine"})

    first = made()
    assert keys(made()) == keys(first) and told(first, made()) == ""
    edited = files / ("helper.py" if beside else f"{part}.py")
    written(edited, edited.read_text() + "\nMORE = 1\n")
    again = made()
    assert not keys(again) & keys(first) and edited.stem in told(first, again) and f"the {part} " in told(first, again)


def test_an_edited_engine_is_another_cell_and_is_named(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    first, plain = plan(suite), parts.engine()
    monkeypatch.setattr(parts, "engine", lambda: {**plain, "benchmark.measure.remeasure": "edited"})
    again = plan(suite)
    assert not keys(again) & keys(first)
    assert told(first, again) == "the code of the benchmark itself (benchmark.measure.remeasure)"


def test_an_edited_class_of_a_notebook_is_another_cell(suite: Suite) -> None:
    def made(text: str) -> Plan:
        space: dict[str, Any] = {"__name__": "a_notebook"}
        exec(compile(text, "<cell>", "exec"), space)
        return plan(suite, space["Mine"]())

    assert keys(made(NOTEBOOK)) == keys(made(NOTEBOOK))
    again = made(NOTEBOOK.replace("x * k", "x + k"))
    assert not keys(again) & keys(made(NOTEBOOK)) and "deeper (typed in)" in told(made(NOTEBOOK), again)


@dataclass(frozen=True, eq=False)
class Holding(Defense):
    """Whatever it is given."""

    thing: Any = None
    name = "holding"

    def fit(self, fitting: Fitting) -> FittedDefense:
        return FittedDefense({})


class Plain:
    def __init__(self, **held: Any) -> None:
        vars(self).update(held)


def test_one_element_of_a_large_tensor_makes_another_cell(suite: Suite) -> None:
    one = torch.zeros(5000)
    other = one.clone()
    other[2500] = 1e-6
    assert str(one) == str(other), "or the test means nothing"
    made = [plan(suite, Holding(t)) for t in (one, one.clone(), other)]
    assert keys(made[0]) == keys(made[1]) and not keys(made[0]) & keys(made[2])
    assert "the settings of the defense mine (thing)" in told(made[0], made[2])


def test_a_setting_that_cannot_be_hashed_is_refused_by_name(suite: Suite) -> None:
    with pytest.raises(UsageError, match=r"the setting mine.thing.hook is a function"):
        plan(suite, Holding(Plain(hook=lambda h: h)))
    assert plan(suite, Holding(Plain(strength=1.0))).cells


class Fitted(ToyTask):
    """Other examples in one split, or another retain set; everything else is the same."""

    def __init__(self, split: str = "", retain: str = "") -> None:
        self.changed = (split, retain)

    def examples(self, split: Split) -> Sequence[Example]:
        return [replace(e, prompt=f"{e.prompt} w3") if split == self.changed[0] else e for e in super().examples(split)]

    def retain(self, split: Split) -> Sequence[Example]:
        return self.examples(split)[:3] if split == self.changed[1] else super().retain(split)


@pytest.mark.parametrize(("split", "retain"), [("fit", ""), ("dev", ""), ("test", ""), ("", "fit"), ("", "test")])
def test_every_split_and_retain_set_counts(suite: Suite, split: str, retain: str) -> None:
    first, again = plan(suite, task=Fitted()), plan(suite, task=Fitted(split, retain))
    assert keys(plan(suite, task=Fitted())) == keys(first) and not keys(first) & keys(again)
    assert f"the {split or retain} " in told(first, again)


def test_a_judge_and_a_source_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"data": {"source": "organism:requests", "shared_clusters": True}}
    found = parts._task(TaskView(resolve_task("refusal", data), "mine"), {})["code"]
    assert {"tasks.refusal", "tasks.judges.rules", "tasks.organism.source", "tasks.organism.chat"} <= set(found)
    assert "tasks.probe" not in found and "tasks.judges.classifier" not in found
    assert "rules" in JUDGES.names() and "organism" in SOURCES.names()


def test_what_is_asked_for_in_another_way_is_the_same_cell(suite: str, tmp_path: Path) -> None:
    path = suite_file(tmp_path, tasks={"mine": {**_toy(tmp_path), "kind": f"{written(tmp_path / 'k.py', KIND)}:Mine"}})
    common = {"defense": "sae-clamp", "suite": str(path), "limit": 5, "attacks": ["zero"]}
    first = prepare(Request.make(common)).plan
    for other in ({"batch_size": 3}, {"device": "cpu"}, {"output_dir": tmp_path / "o"}):
        assert keys(prepare(Request.make({**common, **other})).plan) == keys(first)
    assert not keys(prepare(Request.make({**common, "seed": 1})).plan) & keys(first)
    assert view(load_suite(str(path)), "mine").name == "mine"


KIND = "from tests.tiny import ToyTask\nclass Mine(ToyTask):\n    pass\n"


def _toy(folder: Path) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(suite_file(folder).read_text())["tasks"]["toy"]


# --- in the run directory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    folder = tmp_path_factory.mktemp("runs")
    path = suite_file(folder, tasks={"mine": {**_toy(folder), "kind": f"{written(folder / 'k.py', KIND)}:Mine"}})

    def again(**options: Any) -> Any:
        common: dict[str, Any] = {"suite": str(path), "output_dir": folder / "run", "attacks": ["zero"], "limit": 4}
        return evaluate(**{"defense": "none", **common, **options})

    return again


def test_every_cell_and_the_header_say_which_code_made_them(run: Callable[..., Any]) -> None:
    found = run().directory
    planned = json.loads((found / "plan.json").read_text())
    header = json.loads((found / "run.json").read_text())
    for cell in planned["cells"]:
        made = json.loads((pq.read_schema(found / cell["file"]).metadata or {})[b"recoverybench.code"])
        assert made == cell["code"] and set(made) == {"engine", "task", "defense", "attack"}
        assert header["code"]["engine"] == made["engine"] and made["task"] == header["code"]["tasks"]["mine"]
    assert "benchmark.run.cell" in planned["inputs"]["engine"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seed": 1}, r"the seed \(0 there, 1 here\)\. Give"),
        ({"dtype": "float64"}, "the dtype .float32 there, float64 here"),
        ({"limit": 3}, "the test examples of the task mine .4 there, 3 here: the limit"),
        ({"defense": ["none", "always-refuse"]}, "the defense always-refuse is only here"),
        ({"attacks": ["recovery"]}, "the attack recovery .before_edit, .* is only here"),
    ],
)
def test_a_directory_of_another_plan_says_what_differs(
    run: Callable[..., Any], options: dict[str, Any], told: str
) -> None:
    run()
    with pytest.raises(RunDirectoryError, match=told):
        run(**options)


def test_a_directory_that_mixes_code_is_refused_and_not_ranked(run: Callable[..., Any]) -> None:
    found = run().directory
    cell = json.loads((found / "plan.json").read_text())["cells"][0]
    clean = read_run(found)
    assert not any("other code" in reason for reason in _run_reasons(clean, cell["defense"]))
    file, rows = found / cell["file"], pq.read_table(found / cell["file"])
    for told in ({**cell["code"], "engine": "another"}, None):
        extra = {} if told is None else {b"recoverybench.code": json.dumps(told).encode()}
        kept = {k: v for k, v in (rows.schema.metadata or {}).items() if k != b"recoverybench.code"}
        pq.write_table(rows.replace_schema_metadata({**kept, **extra}), file)
        with pytest.raises(RunDirectoryError, match=f"{file.name} was made by other code .*mixes runs"):
            run()
        assert "1 cells were made by other code" in " ".join(_run_reasons(read_run(found), cell["defense"]))
    file.unlink()
    assert run().status == "complete"
