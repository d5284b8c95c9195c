"""A user's own model, SAE and questions, from the command line to the table; and mistakes, told before any work."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmark import evaluate
from benchmark.cache import PLACE
from benchmark.errors import UsageError
from benchmark.run.request import FRAME
from tests import tiny
from tests.own import asked, belongings, bench, questions, table
from tests.tiny import SITE

STORIES = "RECOVERYBENCH_STORIES260K"
"""Environment variable that names the folder of a small pretrained model, stories260K."""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return belongings(tmp_path_factory.mktemp("own"))


@pytest.fixture
def here(mine: Path, tmp_path: Path) -> Path:
    """A copy, for what is changed in it."""
    shutil.copytree(mine, tmp_path / "mine", ignore=shutil.ignore_patterns("out*"))
    return tmp_path / "mine"


def header(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


# --- from the command line to the table


def test_a_model_an_sae_and_a_csv_become_a_table_rows_and_a_header(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, str(here / "cache"))
    done = bench(*asked(here))
    assert done.exit_code == 0, done.output
    assert "sae-clamp on tiny" in done.output and "choice: norms, ceilings and tau measured in " in done.output
    run = header(here / "out")
    own = run["tasks"]["choice"]
    assert run["status"] == "complete" and run["model"]["id"] == "tiny" and own["site"] == SITE
    ceiling = own["ceilings"]["before_edit"]
    assert 1 <= len(own["budgets"]["before_edit"]) <= 6 and own["budgets"]["before_edit"][-1] <= ceiling
    assert own["tau"] > 0 and set(own["residual_norms"]) >= {"blocks.0.hook_resid_pre", "blocks.3.hook_resid_post"}
    rows = evaluate(**config(here), output_dir=here / "out").to_pandas()
    found = rows[(rows.defense == "sae-clamp") & (rows.attack == "recovery")]
    assert len(found) and set(found.task) == {"choice"} and found.suppressed.any()
    assert set(own["budgets"]["before_edit"]) <= set(found.budget_eps)


def config(folder: Path) -> dict[str, Any]:
    """The same as YAML and Python have it."""
    return {
        "model": str(folder / "tiny"),
        "saes": {SITE: str(folder / "sae")},
        "suite": str(folder / "short.yaml"),
        "tasks": "choice",
        "data": str(folder / "mine.csv"),
        "task_settings": {"data": {"columns": {"question": "q", "choices": ["x", "y", "z"], "answer": "key"}}},
        "device": "cpu",
    }


def test_a_file_of_options_and_python_ask_for_the_same_run(here: Path) -> None:
    few: dict[str, Any] = {**config(here), "controls": False, "attacks": ["zero"]}
    (here / "run.yaml").write_text(yaml.safe_dump(few))
    by_file = bench("evaluate", "--config", str(here / "run.yaml"), "-o", str(here / "a"))
    assert by_file.exit_code == 0, by_file.output
    by_python = evaluate(**few, output_dir=here / "b")
    by_flags = bench(*asked(here, attack="zero", output_dir=here / "c"), "--no-controls")
    assert by_flags.exit_code == 0, by_flags.output
    runs = [header(folder) for folder in (here / "a", by_python.directory, here / "c")]
    assert len({run["run_id"] for run in runs}) == 1 and len({json.dumps(run["tasks"]) for run in runs}) == 1
    assert runs[0]["run_id"] != header_of_other_data(here, few)["run_id"], "which tells other questions apart"


def header_of_other_data(folder: Path, few: dict[str, Any]) -> dict[str, Any]:
    questions(folder / "mine.csv", 60, seed=1)
    return header(evaluate(**few, output_dir=folder / "d").directory)


def test_a_defense_without_saes_needs_none_and_has_no_tau(here: Path) -> None:
    few = {**config(here), "saes": {}, "site": SITE, "defense": "direction-ablation", "attacks": ["recovery"]}
    few["retain_data"] = str(questions(here / "kept.csv", 40, seed=2))
    settings = few["task_settings"]
    few["task_settings"] = {**settings, "retain_data": settings["data"]}
    result = evaluate(**few, controls=False, output_dir=here / "out")
    assert result.status == "complete", result.failures
    assert header(result.directory)["tasks"]["choice"]["tau"] is None


def test_the_frame_that_ships_plans_all_its_attacks_for_any_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.run import constants, freeze

    steered: list[str] = []

    def at(group: Any, attack: Any, rows: int) -> float:
        steered.append(attack.threat_model)
        return 0.0 if attack.threat_model == "soft_suffix" else 0.2016

    monkeypatch.setenv(PLACE, str(here / "cache"))
    monkeypatch.setattr(freeze, "_ceiling", at)
    monkeypatch.setattr(freeze, "_steered", lambda *_: {})
    assert constants.measure is freeze.measure
    done = bench("plan", *asked(here, suite=None, output_dir=None)[1:], "--json")
    assert done.exit_code == 0, done.output
    grids = {tuple(c["budgets"]) for c in json.loads(done.stdout)["cells"] if c["role"] == "attack" and c["searches"]}
    assert grids == {(0.02, 0.031, 0.05, 0.08, 0.12, 0.2, 2.0)} | {(0.02, 0.031, 0.05, 0.08, 0.12, 0.2)}
    assert steered == ["before_edit", "soft_suffix"], "behind an edit and before it are one place, where there is none"
    left_out = "choice: left out soft_suffix: even 0.0025, the smallest budget tried, steers the undefended model"
    assert left_out in " ".join(done.stderr.split())


@pytest.mark.skipif(STORIES not in os.environ, reason=f"{STORIES} names no folder with the model stories260K")
def test_a_pretrained_model_goes_the_same_way(tmp_path: Path) -> None:
    known = {"was very": "happy", "went to the": "park", "saw a big": "box"}
    names = ("Lily", "Tom", "Tim", "Ben", "Sue", "Mia", "Max", "Sam", "Jack", "Anna")
    rows = [
        {"q": f"{name} {start}", "x": end, "y": "said", "z": "tree", "key": end}
        for name in names
        for start, end in known.items()
    ]
    table(tmp_path / "mine.csv", rows)
    (tmp_path / "short.yaml").write_text(belongings(tmp_path / "tiny").joinpath("short.yaml").read_text())
    hook = "blocks.2.hook_resid_post"
    model = Path(os.environ[STORIES])
    said = {"model_name": model.name, "hook_name": hook}
    tiny.sae_folder(tmp_path / "sae", d_in=64, d_sae=256, metadata=said)
    done = bench(*asked(tmp_path, model=model, sae=f"{hook}={tmp_path / 'sae'}"))
    assert done.exit_code == 0, done.output
    assert header(tmp_path / "out")["model"]["id"] == model.name and "sae-clamp on" in done.output


# --- mistakes

Change = Callable[[Path], dict[str, Any]]


def rewritten(**changes: Any) -> Change:
    """Questions in whose every row some cells are others."""
    return lambda folder: {"data": questions(folder / "bad.csv", 60, **changes)}


def text(content: str, name: str = "bad.csv") -> Change:
    def change(folder: Path) -> dict[str, Any]:
        (folder / name).write_text(content)
        return {"data": folder / name}

    return change


def suite(content: str) -> Change:
    def change(folder: Path) -> dict[str, Any]:
        (folder / "bad.yaml").write_text(f"extends: short.yaml\nname: bad\n{content}")
        return {"suite": folder / "bad.yaml"}

    return change


def sae(site: str = SITE, **settings: Any) -> Change:
    return lambda folder: {"sae": f"{site}={tiny.sae_folder(folder / 'other', **settings)}"}


def given(**flags: Any) -> Change:
    return lambda folder: flags


COLUMNS = "data.columns={question: q, choices: [x, y, z], answer: key}"
FAULTS: dict[str, tuple[Change, str]] = {
    "a typo in a suite": (suite("atacks: []\n"), "atacks: Extra inputs are not permitted.*a suite has: name"),
    "a typo in a setting": (given(T=[COLUMNS, "frm.template=x"]), "unknown setting frm; Choice has: data, form"),
    "a missing column": (
        given(T=["data.columns.question=q"]),
        "has no column choices, answer; it has: q, x, y, z, key",
    ),
    "a column that is not there": (given(T=["data.columns.question=Q"]), "has no column Q.*it has: q, x"),
    "an empty file": (text(""), "bad.csv is empty: it has no records"),
    "a file of another form": (text("x", "bad.txt"), "bad.txt' is no source of data; write a file"),
    "one cluster": (
        lambda folder: {**rewritten(group="all")(folder), "T": [COLUMNS, "data.columns.cluster=group"]},
        "no row is in .*, of 60 rows in 1 clusters; give more clusters",
    ),
    "an answer out of range": (rewritten(key="7"), "row 1: answer '7' is not among the choices"),
    "a label out of range": (
        lambda folder: {
            **rewritten(label="9")(folder),
            "task": "probe",
            "T": ["data.columns.text=q", "labels=[a, b]"],
        },
        "row 1: the label '9' is no number from 0 to 1",
    ),
    "a choice that is empty": (rewritten(y=" "), r"row 1: choices\[1\] is empty"),
    "a choice that is no token": (
        rewritten(y="unheard-of"),
        "the choice ' unheard-of' is unknown to of this tokenizer",
    ),
    "a site that the model lacks": (given(site="blocks.9.hook_resid_post"), "blocks.9.* is outside tiny.* 4 layers"),
    "a site of another form": (given(site="layer 3"), "--site: .*blocks"),
    "an SAE at a site that the model lacks": (sae("blocks.7.hook_resid_post"), "blocks.7.* is outside tiny"),
    "an SAE of another width": (sae(d_in=16), "width 16, the model's width is 32"),
    "an SAE of another model": (sae(metadata={"model_name": "gpt2"}), "it was trained on 'gpt2', this model is 'tiny'"),
    "an SAE of another site": (
        sae(metadata={"hook_name": "blocks.2.hook_resid_post"}),
        "it was trained at blocks.2.hook_resid_post",
    ),
    "no SAE there": (given(sae=f"{SITE}=nowhere"), "nowhere"),
    "--sae without =": (given(sae="folder"), "--sae 'folder': write HOOK=SOURCE"),
    "one SAE twice": (given(sae=[f"{SITE}=a", f"{SITE}=a"]), "--sae: give one SAE, or several that are all different"),
    "no chat template": (
        lambda folder: {"task": "refusal", "T": ["data.columns.prompt=q", "chat=true", "openers=[w5]"]},
        "`chat: true` needs a tokenizer with a chat template",
    ),
    "a prompt that is too long": (
        given(T=[COLUMNS, f"form.template='{'w5 ' * 64}{{question}}'"]),
        "is 71 tokens long, and tiny reads 64; shorten",
    ),
    "data without a kind": (given(task=None), "--data needs one --task, the kind of task .*there are choice, ioi"),
    "data for two kinds": (given(task=["choice", "ioi"]), "--data needs one --task"),
    "a kind that is none": (given(task="choise"), "--task choise is no kind.*Did you mean 'choice'"),
    "settings without data": (given(data=None), "-T is about data of your own; give --data"),
    "retain data without data": (given(data=None, T=None, retain_data="x.csv"), "--retain-data is about data of your"),
    "a source beside --data": (given(T=["data.source=x.csv"]), "-T data: --data says where it comes from"),
    "a setting twice": (given(T=["score=sum", "score=mean"]), "-T score: it is given twice"),
    "a setting and what is in it": (
        given(T=["form=x", "form.template=y"]),
        "-T form.template: form has a value already",
    ),
    "a folder that is no model": (
        lambda folder: {"model": Path(tiny.sae_folder(folder / "none"))},
        "none is no model: it has no config.json",
    ),
    "a name without a model": (given(model=None, model_name="x"), "--model-name says what the SAEs of --model call it"),
    "no model for the frame": (given(suite=FRAME, model=None), "is a frame for models of your own; give --model"),
    "no place to look at": (given(suite=None, sae=None), "--model needs a place to look at; give its SAE"),
    "no task": (given(suite=None, task=None, data=None, T=None), "--model needs a task; give --task KIND --data FILE"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_mistake_is_told_before_any_work(here: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("constants are measured")

    monkeypatch.setenv(PLACE, str(here / "cache"))
    monkeypatch.setattr("benchmark.run.constants.measure", work)
    change, message = FAULTS[fault]
    done = bench(*asked(here, **change(here)))
    assert isinstance(done.exception, UsageError), done.output
    with pytest.raises(UsageError, match=f"(?s){message}"):
        raise done.exception
    assert not (here / "out").exists()


def test_without_a_mistake_there_is_work(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("constants are measured")

    monkeypatch.setenv(PLACE, str(here / "cache"))
    monkeypatch.setattr("benchmark.run.constants.measure", work)
    assert isinstance(bench(*asked(here)).exception, AssertionError)


def test_a_model_that_knows_nothing_of_a_task_is_told_so_before_any_attack(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE, str(here / "cache"))
    monkeypatch.setattr("benchmark.run.freeze.run_cell", lambda *_: pytest.fail("it is attacked"))
    disliked(here / "mine.csv")
    done = bench(*asked(here))
    with pytest.raises(UsageError, match="tiny shows the behavior on 0 of [0-9]+ examples of fit, so there is nothing"):
        raise done.exception or AssertionError(done.output)


def disliked(path: Path) -> None:
    """Make the answer of every question the choice that the tiny model likes least."""
    subject = tiny.subject()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        logits = subject.model(torch.tensor([subject.tokenizer(row["q"])["input_ids"]])).logits[0, -1]
        row["key"] = min((row[c] for c in "xyz"), key=lambda word: float(logits[int(word[1:])]))
    table(path, rows)
