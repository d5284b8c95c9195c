"""A suite file that is wrong is told by file, line and key, with what exists; nothing in it is dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.documents import read
from benchmark.errors import UsageError
from benchmark.plain_yaml import written
from benchmark.suite import Suite
from benchmark.suite_file import load_suite
from tests.tiny import SITE

TASK: dict[str, Any] = {"site": SITE, "budgets": {"before_edit": [0.1, 0.2]}}
GOOD: dict[str, Any] = {
    "name": "mine",
    "model": {"source": "somewhere/model", "name": "model"},
    "tasks": {"ioi": TASK},
    "attacks": [{"attack": "recovery"}],
}


def file(folder: Path, content: Any, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else written(content), "utf-8")
    return str(path)


def said(named: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_suite(named)
    return str(caught.value)


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in GOOD.items() if k != key}


def task(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "tasks": {"ioi": {**TASK, **changes}}}


def test_a_good_one_is_read(tmp_path: Path) -> None:
    suite = load_suite(file(tmp_path, GOOD))
    assert (suite.name, suite.tasks["ioi"].budgets) == ("mine", {"before_edit": (0.1, 0.2)})


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (without("name"), ["name: Field required", "a suite has: name, version"]),
        (without("tasks"), ["tasks: Field required"]),
        (without("model"), ["model: Field required"]),
        (without("attacks"), ["attacks: Field required"]),
        ({**GOOD, "attacks": []}, ["attacks is empty: nothing would be run"]),
        ({**GOOD, "tasks": {}}, ["tasks is empty: nothing would be run"]),
        ({**GOOD, "attacks": [{}]}, ["attacks.0 is {}", "write {attack: NAME}"]),
        ({**GOOD, "attacks": [{"attack": 3}]}, ["attacks.0"]),
        ({**GOOD, "attacks": ["recovery"]}, ["attacks.0", "(got 'recovery')"]),
        ({**GOOD, "attacks": "recovery"}, ["attacks", "(got 'recovery')"]),
        ({**GOOD, "tasks": ["ioi"]}, ["tasks", "(got ['ioi'])"]),
        ({**GOOD, "tasks": {"ioi": None}}, ["tasks.ioi", "(got None)"]),
        ({**GOOD, "tasks": {" ": TASK}}, ["is empty"]),
        ({**GOOD, "model": "gpt2"}, ["model", "(got 'gpt2')"]),
        ({**GOOD, "model": {"source": " ", "name": "m"}}, ["model.source"]),
        ({**GOOD, "name": 3}, ["line 1: name: Input should be a valid string (got 3)"]),
        ({**GOOD, "name": None}, ["name", "(got None)"]),
        ({**GOOD, "name": ""}, ["is empty; write one"]),
        ({**GOOD, "name": "a\nb"}, ["control or invisible"]),
        ({**GOOD, "version": "1"}, ["version", "(got '1')"]),
        ({**GOOD, "version": True}, ["version", "(got True)"]),
        ({**GOOD, "version": 1.0}, ["version", "(got 1.0)"]),
        ({**GOOD, "limit": True}, ["limit", "(got True)"]),
        ({**GOOD, "sample": 0}, ["sample"]),
        ({**GOOD, "saes": {"x": "y"}}, ["saes.x", "not a residual-stream site"]),
        ({**GOOD, "saes": {SITE: 3}}, [f"saes.{SITE}", "(got 3)"]),
        ({**GOOD, "surprise": 1}, ["surprise", "(got 1)"]),
        (task(examples="8"), ["line", "tasks.ioi.examples", "(got '8')"]),
        (task(perturbed=True), ["tasks.ioi.perturbed"]),
        (task(budgets={"before_edit": [True]}), ["tasks.ioi.budgets.before_edit.0", "(got True)"]),
        (task(budgets={"before_edit": ["0.1"]}), ["budgets.before_edit.0", "(got '0.1')"]),
        (task(budgets={"before_edit": []}), ["at least one"]),
        (task(budgets={"before_edit": [0.2, 0.1]}), ["ascending"]),
        (task(budgets={"nowhere": [0.1]}), ["budgets for nowhere; threat models are: "]),
        (task(site="layer 3"), ["blocks.<layer>"]),
        (task(kind=["mine.py:Mine"]), ["tasks.ioi.kind"]),
        (task(settings=3), ["tasks.ioi.settings"]),
        ([GOOD], ["not a mapping", "a suite has: name"]),
        ("3", ["is 3, not a mapping"]),
        ("name: a\nname: b\n", ["line 2", "'name' is there twice"]),
        ("name: a\n1: b\n", ["line 2", "the key 1 is no text"]),
        ("name: &a [*a]\n", ["within itself"]),
        ("a: " + "[" * 3000, ["nested more than"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_told_by_file_and_key(content: Any, parts: list[str], tmp_path: Path) -> None:
    path = file(tmp_path, content)
    message = said(path)
    assert path in message and all(part in message for part in parts), message


def test_every_fault_is_in_one_message_with_its_line(tmp_path: Path) -> None:
    message = said(file(tmp_path, {**GOOD, "version": "1", "limit": "2"}))
    assert "version: " in message and "limit: " in message
    lines = written({**GOOD, "version": "1", "limit": "2"}).splitlines()
    assert all(f"line {lines.index(line) + 1}: " in message for line in ('version: "1"', 'limit: "2"'))


@pytest.mark.parametrize(
    ("base", "parts"),
    [
        (["embedded"], ["line 1: extends: ['embedded'] is no name; write the name or the file of one suite"]),
        (None, ["extends: None is no name"]),
        (3, ["extends: 3 is no name"]),
        ("nowhere.yaml", ["extends: there is no suite file", "nowhere.yaml", "one of cross-layer, embedded"]),
        ("embeded", ["extends: unknown suite 'embeded'. Did you mean 'embedded'?"]),
        ("mine.yaml", ["extend each other in a circle"]),
        ("./../{folder}/mine.yaml", ["extend each other in a circle"]),
        ("second.yaml", ["extend each other in a circle", "second.yaml"]),
    ],
)
def test_what_a_suite_extends_is_one_other_suite(base: Any, parts: list[str], tmp_path: Path) -> None:
    file(tmp_path, {"extends": "mine.yaml", "name": "second"}, "second.yaml")
    base = base.replace("{folder}", tmp_path.name) if isinstance(base, str) else base
    message = said(file(tmp_path, {"extends": base, "name": "mine"}))
    assert "mine.yaml" in message and all(part in message for part in parts), message


def test_a_fault_is_told_by_the_file_that_has_it(tmp_path: Path) -> None:
    file(tmp_path, {**GOOD, "version": "1"}, "base.yaml")
    message = said(file(tmp_path, {"extends": "base.yaml", "limit": "3"}))
    assert f"in {tmp_path / 'base.yaml'}, line" in message and "version" in message and "line 2: limit" in message


def test_a_chain_of_suites_is_no_circle(tmp_path: Path) -> None:
    file(tmp_path, GOOD, "a.yaml")
    file(tmp_path, {"extends": "a.yaml", "limit": 3}, "b.yaml")
    assert load_suite(file(tmp_path, {"extends": "b.yaml", "name": "c"}, "c.yaml")).limit == 3


def test_a_suite_written_down_is_the_same_suite(tmp_path: Path) -> None:
    first = load_suite("embedded")
    path = file(tmp_path, first.model_dump(mode="json"), "again.yaml")
    assert load_suite(path) == first and load_suite(path).hash == first.hash
    assert Suite.model_validate(read(Path(path)).value) == first
