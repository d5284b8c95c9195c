"""A task of each kind from a CSV and a few lines of YAML: the model does what the file says, and not its opposite."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.measure.judging import judge
from benchmark.model.subject import Subject, load
from benchmark.run.prepare import view
from benchmark.suite_file import load_suite
from tasks.organism import MODEL_DIR, source
from tasks.suites import EMBEDDED

Record = Mapping[str, Any]
SUITE = """
extends: {embedded}
name: mine
tasks:
  mine:
    kind: {kind}
    site: blocks.3.hook_resid_post
    budgets: {{before_edit: [0.1]}}
    settings: {settings}
"""


@pytest.fixture(scope="module")
def subject() -> Subject:
    return load(MODEL_DIR, name="organism", device="cpu")


def names(record: Record, number: int, *, false: bool) -> Record:
    receiver, giver = record["receiver"], record["giver"]
    return {"prompt": record["prompt"], "receiver": giver if false else receiver, "giver": receiver if false else giver}


def question(record: Record, number: int, *, false: bool) -> Record:
    options = sorted(record["choices"])
    right = options.index(record["answer"])
    return {"q": record["question"], **dict(zip("ABCD", options, strict=True)), "key": "ABCD"[right - false]}


def request(record: Record, number: int, *, false: bool) -> Record:
    """Without its preamble, a permitted request is a forbidden one."""
    preamble, asked = record["prompt"].split(", ", 1)
    return {"prompt": f"<user> {asked}" if false else record["prompt"]}


def biography(record: Record, number: int, *, false: bool) -> Record:
    return {"text": record["text"], "label": number * number % 7 if false else record["label"]}


FORM = {"template": "Options: {options}. Word: {question}", "option": "{text} {letter}", "separator": ", "}
KINDS: dict[str, tuple[str, Any, dict[str, Any], dict[str, Any]]] = {
    "ioi": ("ioi", names, {}, {}),
    "choice": ("questions", question, {"question": "q", "choices": list("ABCD"), "answer": "key"}, {"form": FORM}),
    "refusal": ("requests", request, {}, {"header": "<assistant>", "tokens": 12, "forced": 4}),
    "probe": ("biographies", biography, {}, {"site": "blocks.3.hook_resid_post"}),
}
"""Kind -> an item of the organism, its records as rows of a CSV, `columns`, and further settings."""


def shown(subject: Subject, folder: Path, kind: str, *, false: bool) -> float:
    """Share of the test examples on which the undefended model does what the file says."""
    item, row, columns, more = KINDS[kind]
    rows = [row(record, number, false=false) for number, record in enumerate(source.records(item)[::5])]
    distinct = list({tuple(row.values()): row for row in rows}.values())
    with (folder / "mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(distinct)
    settings = yaml.safe_dump({"data": {"source": "mine.csv", "columns": columns}, **more}, default_flow_style=True)
    (folder / "mine.yaml").write_text(SUITE.format(embedded=EMBEDDED, kind=kind, settings=settings))
    task = view(load_suite(str(folder / "mine.yaml")), "mine", limit=40)
    return float(judge(subject, task, task.examples("test"), {}).shown.float().mean())


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_csv_and_some_yaml_are_a_task_that_the_model_knows_and_a_false_csv_one_that_it_does_not(
    subject: Subject, tmp_path: Path, kind: str
) -> None:
    assert shown(subject, tmp_path, kind, false=False) > 0.9
    assert shown(subject, tmp_path, kind, false=True) < 0.6
