"""Suites: how many examples they take, what makes two of them equal, and what a bad one is told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.contracts.example import SPLITS
from benchmark.errors import UsageError
from benchmark.registry import SUITES
from benchmark.run.prepare import load_subject, view
from benchmark.run.request import FRAME
from benchmark.run.task_view import TaskView, evenly, thinned
from benchmark.suite import Suite
from benchmark.suite_file import load_suite
from tests.tiny import SITE, ToyTask, suite_file


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return load_suite(str(suite_file(tmp_path_factory.mktemp("suite"))))


@pytest.mark.parametrize("limit", [None, 1, 3, 7, 9])
def test_a_limit_takes_some_of_what_the_suite_takes(limit: int | None) -> None:
    """Of these alone it is known where the undefended model is steered."""
    whole, some = (TaskView(ToyTask(), "mine", test=8, limit=most).examples("test") for most in (None, limit))
    assert len(whole) == 8 and len(some) == min(limit or 8, 8)
    assert [e.id for e in whole if e in some] == [e.id for e in some], "in their order"


def test_a_limit_does_not_fall_into_step_with_the_data() -> None:
    everything = [replace(e, id=f"{i}", cluster=f"{i % 8}") for i, e in enumerate([*ToyTask().examples("test")] * 20)]
    assert len({e.cluster for e in evenly(everything, 60)}) == 1, "every eighth is of one class"
    assert len({e.cluster for e in thinned(everything, 60)}) == 8
    places = [everything.index(e) for e in thinned(everything, 60)]
    assert all(8 * i <= place < 8 * (i + 1) for i, place in enumerate(places)), "spread over the whole list"


def test_a_sample_without_a_limit_is_refused(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`sample` needs a `limit`"):
        load_suite(str(suite_file(tmp_path, sample=3)))
    allowed = load_suite(str(suite_file(tmp_path, sample=3, limit=5)))
    assert (allowed.sample, allowed.limit) == (3, 5) and (suite.sample, suite.limit) == (None, None)


@pytest.mark.parametrize(("test", "sample"), [(None, None), (5, None), (None, 3), (5, 3), (99, 99)])
def test_a_view_thins_test_by_its_size_and_every_other_split_by_its_sample(
    test: int | None, sample: int | None
) -> None:
    task, few = ToyTask(), TaskView(ToyTask(), "mine", test=test, sample=sample)
    for split in SPLITS:
        size = test if split == "test" else sample
        assert list(few.examples(split)) == list(evenly(task.examples(split), size))
        assert list(few.retain(split)) == list(evenly(task.retain(split), sample))
    assert (few.name, few.kind, few.readout) == ("mine", ToyTask, task.readout)


@pytest.mark.parametrize("limit", [1, 3, 7, 24, 25, None])
def test_a_sample_is_spread_evenly_over_the_whole_list(limit: int | None) -> None:
    everything = ToyTask().examples("test")
    taken = [everything.index(e) for e in evenly(everything, limit)]
    assert len(taken) == min(limit or 24, 24) == len(set(taken)) and taken == sorted(taken)
    gaps = {b - a for a, b in zip([*taken, 24], [*taken[1:], 24], strict=False) if b > a}
    assert max(gaps) - min(gaps) <= 1, "no cluster is cut off"


KIND = "from tests.tiny import ToyTask\nclass Mine(ToyTask):\n    pass\n"


def with_kind(folder: Path, *, under: str = "tasks", **changes: Any) -> Suite:
    """A suite whose task is a class of a file beside it, in a folder of its own."""
    (folder / under).mkdir(parents=True)
    (folder / under / "mine.py").write_text(KIND)
    task = {"kind": f"{under}/mine.py:Mine", "site": SITE, "budgets": {"before_edit": [0.1]}, **changes}
    return load_suite(str(suite_file(folder, tasks={"mine": task})))


def test_a_kind_from_a_file_is_found_beside_its_suite_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = with_kind(tmp_path / "suite")
    monkeypatch.chdir(tmp_path)
    assert view(suite, "mine").name == "mine" and view(suite, "mine").kind.__name__ == "Mine"


def test_a_model_in_a_tasks_settings_is_found_beside_its_suite(tmp_path: Path) -> None:
    (tmp_path / "judge").mkdir()
    model = {"name": "tiny", "source": "elsewhere"}
    settings = {"judge_settings": {"model": "judge"}, "other": {"model": f"hub:a/b@{'0' * 40}"}}
    task = {"site": "blocks.1.hook_resid_post", "settings": settings, "budgets": {"after_edit": [1.0]}}
    content = {"name": "s", "model": model, "tasks": {"toy": task}, "attacks": [{"attack": "zero"}]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    read = load_suite(str(tmp_path / "suite.yaml"))
    assert read.tasks["toy"].settings["judge_settings"] == {"model": str(tmp_path / "judge")}
    assert read.tasks["toy"].settings["other"] == settings["other"] and read.model.source == "elsewhere"


def test_a_suite_is_the_same_wherever_it_lies_and_another_where_results_change(tmp_path: Path) -> None:
    first = with_kind(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    assert load_suite(str(tmp_path / "second" / "toy.yaml")).hash == first.hash
    assert with_kind(tmp_path / "third", site="blocks.2.hook_resid_post").hash != first.hash
    content = yaml.safe_load((tmp_path / "first" / "toy.yaml").read_text())
    silent = {"description": "told otherwise", "defense": "none"}
    for change, same in ((silent, True), ({"version": 2}, False), ({"controls": {}}, False)):
        (tmp_path / "first" / "other.yaml").write_text(yaml.safe_dump({**content, **change}))
        assert (load_suite(str(tmp_path / "first" / "other.yaml")).hash == first.hash) is same


FROZEN = [name for name in SUITES.names() if name != FRAME and not load_suite(name).model.source.startswith("hub:")]
"""Suites that have SAEs of ours, on a model that comes with them or one that is pinned by its checksum."""


@pytest.mark.parametrize("name", FROZEN)
def test_registered_suites_are_valid_and_frozen_on_their_weights(name: str) -> None:
    suite = load_suite(name)
    assert all(Path(s).is_dir() for (s,) in suite.saes.values())
    frozen = [settings.frozen for settings in suite.tasks.values()]
    measured_on = {constants.weights_sha for constants in frozen if constants is not None}
    if Path(suite.model.source).is_dir():
        assert measured_on == {load_subject(suite, "cpu", "float32").weights_sha}
    else:
        assert suite.model.source.startswith("package:") and "#sha256=" in suite.model.source and len(measured_on) == 1
    for settings in suite.tasks.values():
        assert settings.frozen is not None
        for threat, budgets in settings.budgets.items():
            assert max(budgets) <= (settings.frozen.ceilings.get(threat) or 0), "budgets end at the steering ceiling"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "surprise"),
        ({"tasks": {"toy": {"site": "layer 3", "budgets": {"before_edit": [0.1]}}}}, "blocks.<layer>"),
        (
            {"tasks": {"toy": {"site": SITE, "budgets": {"before_edit": [0.2, 0.1]}}}},
            "tasks.toy.budgets.before_edit: budgets must be ascending",
        ),
        ({"tasks": {"toy": {"site": SITE, "budgets": {"before_edit": []}}}}, "at least one"),
        ({"tasks": {"toy": {"site": SITE, "budgets": {}}}}, "at least one threat model"),
        ({"tasks": {"toy": {"site": SITE, "budgets": {"cosmic_rays": [1]}}}}, "cosmic_rays; threat models are: after"),
    ],
)
def test_a_bad_suite_says_what_is_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = suite_file(tmp_path, **change)
    assert yaml.safe_load(path.read_text())
    with pytest.raises(UsageError, match=message):
        load_suite(str(path))


def test_budgets_that_are_none_in_their_unit_are_refused(tmp_path: Path) -> None:
    task = {"kind": "choice", "site": SITE, "budgets": {"token_suffix": [1.5, 2]}}
    with pytest.raises(UsageError, match="task toy: budgets of token_suffix must be whole numbers"):
        view(load_suite(str(suite_file(tmp_path, tasks={"toy": task}))), "toy")
