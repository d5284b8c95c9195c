"""Defenses that remember, leave something behind or declare what is not so: refused by name or barred by the flag that
says why, while the plain clamp in the same run stays as it is alone."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from benchmark import Defense, FittedDefense, Fitting, evaluate
from benchmark.run.runner import Result
from tests.adversarial.arena import barring, judged
from tests.adversarial.changed_weights import ChangedWeights
from tests.adversarial.clamped import CLAMP
from tests.adversarial.hidden_hook import HiddenHook
from tests.adversarial.lookup import Lookup, peeking
from tests.adversarial.not_position_wise import NotPositionWise
from tests.adversarial.patched_task import PatchedTask
from tests.adversarial.quiet_builtin import QuietBuiltin
from tests.adversarial.stranger import Stranger
from tests.benchmark.run.equal_rows import CHANGING

SHORT: dict[str, Any] = {"suite": "smoke", "tasks": ["ioi"], "attacks": ["recovery"], "limit": 16, "controls": False}


class Peeking(Defense):
    """Asks for what it must not see."""

    name = "peeking"

    def fit(self, fitting: Fitting) -> FittedDefense:
        peeking(fitting)
        return CLAMP.fit(fitting)


def called(name: str, defense: Any) -> Defense:
    """The same under a name of its own."""
    kind: Any = type(type(defense).__name__, (type(defense),), {"name": name})
    return kind(**{f.name: getattr(defense, f.name) for f in fields(defense)})


LEFT: dict[str, tuple[Defense, str]] = {
    "hook-fit": (HiddenHook(), "forward hooks"),
    "hook-edit": (HiddenHook("edit"), "left a hook on model.layers"),
    "weights-fit": (ChangedWeights(), "the weights "),
    "weights-edit": (ChangedWeights("edit"), "the weights "),
    "task": (PatchedTask("task"), "Ioi: verdict"),
    "engine": (PatchedTask("engine"), "benchmark.measure.judging: judge"),
    "code": (PatchedTask("code"), "benchmark.measure.judging: kept"),
    "torch": (PatchedTask("torch"), "the module torch: stack"),
    "mode": (PatchedTask("mode"), "the default dtype"),
    "tokenizer": (PatchedTask("tokenizer"), "the tokenizer: encode (new)"),
    "quiet": (QuietBuiltin(), "benchmark.measure.outcome: min (new)"),
}
"""Defenses by what they leave, and the words in which it is named."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The plain clamp with nobody beside it."""
    return evaluate(CLAMP, output_dir=tmp_path_factory.mktemp("alone") / "run", **SHORT)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The plain clamp after all those that leave something behind."""
    cheats = [called(name, defense) for name, (defense, _) in LEFT.items()]
    return evaluate([*cheats, CLAMP], output_dir=tmp_path_factory.mktemp("beside") / "run", **SHORT)


def errors(result: Result) -> dict[str, str]:
    """What went wrong, by how its sentence begins."""
    lines = map(json.loads, (result.directory / "events.jsonl").read_text().splitlines())
    return {event["what"].split()[0]: event["error"] for event in lines if event["event"] == "error"}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_behind_is_named_and_its_defense_refused(name: str, beside: Result) -> None:
    assert LEFT[name][1] in errors(beside)[name]
    assert not [row for row in beside.rows.to_pylist() if row["defense"] == name]


def test_who_comes_after_them_has_the_rows_that_it_has_alone(alone: Result, beside: Result) -> None:
    assert alone.status == "complete" and beside.status == "partial"
    assert set(errors(beside)) == set(LEFT)
    kept = [name for name in alone.rows.column_names if name not in CHANGING]
    assert alone.rows.num_rows and alone.rows.select(kept).equals(beside.rows.select(kept))


REMEMBERING = {
    "lookup": "fresh-split-differs",
    "stranger": "suppresses-test-more",
    "not-position-wise": "promise-broken",
}


def test_who_remembers_or_declares_what_is_not_so_is_barred_and_the_clamp_is_not(tmp_path: Path) -> None:
    suite = tmp_path / "one.yaml"
    attack = "{attack: recovery, threat_model: before_edit, restarts: 1, search: {steps: 3}}"
    suite.write_text(f"name: one\nextends: smoke\nattacks: [{attack}]\n")
    asked: dict[str, Any] = {"suite": str(suite), "limit": 40}
    entries = judged([Lookup(), Stranger(), NotPositionWise(), Peeking(), CLAMP], tmp_path / "run", **asked)
    for name, code in REMEMBERING.items():
        assert code in barring(entries[name]), (name, barring(entries[name]))
        assert entries[name].verdict.status == "unranked"
    assert "asked for 'test'" in (tmp_path / "run" / "events.jsonl").read_text()
    assert not barring(entries["sae-clamp"]) & {*REMEMBERING.values(), "suppresses-test-more"}
