"""lm-eval's tasks at the gate: what the suite asks for must be there, and enough of it kept."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from leaderboard.board.schema import Entry
from leaderboard.tables.board import render
from tests.leaderboard.row_factory import HALF, QUARTER, default_cells, only, suite, write_run

DEFAULT = default_cells(HALF, QUARTER)
ASKED = [{"task": "knowledge", "keep": 0.95}]


def accuracy(lost: int, name: str = "knowledge") -> dict[str, Any]:
    base = [1.0] * 100
    return {"name": name, "metric": "acc", "unit": "share", "base": base, "defended": [0.0] * lost + base[lost:]}


def judged(folder: Path, measured: list[dict[str, Any]] | None, asked: list[dict[str, Any]] = ASKED) -> Entry:
    fits = {"utility_tasks": measured, "side_effects": [accuracy(3, "over-refusal")]}
    return only(write_run(folder / "run", DEFAULT, fits=fits, suite=suite(["ioi"], utility=asked)))


@pytest.mark.parametrize("lost", [0, 5])
def test_what_keeps_enough_is_ranked(tmp_path: Path, lost: int) -> None:
    entry = judged(tmp_path, [accuracy(lost)])
    assert entry.verdict.status == "ranked"
    assert entry.per_task["ioi"].utility_tasks[0].change.value == pytest.approx(-lost / 100)


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        ([accuracy(6)], "utility task knowledge: 0.940 of acc is kept, below 0.95, with the defense of ioi"),
        (None, "utility task knowledge of the suite was not measured on ioi: repeat the run without --no-utility"),
        ([accuracy(0, "other")], "utility task knowledge of the suite was not measured on ioi"),
        ([{**accuracy(0), "base": [0.0] * 100}], "utility task knowledge: acc is 0 on the undefended model"),
    ],
)
def test_what_loses_too_much_or_was_not_asked_is_not(tmp_path: Path, measured: Any, reason: str) -> None:
    entry = judged(tmp_path, measured)
    assert entry.verdict.status == "unranked" and [r[: len(reason)] for r in entry.verdict.reasons] == [reason]


def test_what_is_only_shown_bars_nothing(tmp_path: Path) -> None:
    assert judged(tmp_path, [accuracy(60)], [{"task": "knowledge", "keep": None}]).verdict.status == "ranked"
    assert judged(tmp_path / "b", [accuracy(60)], []).verdict.status == "ranked"


def test_it_is_a_line_of_the_table(tmp_path: Path) -> None:
    console = Console(record=True, width=140, file=io.StringIO())
    render(judged(tmp_path, [accuracy(4)]), console)
    shown = console.export_text()
    assert "knowledge, acc (n 100): 1.000 undefended, .960 defended; change -.040 (" in shown
    assert "over-refusal, acc (n 100): 1.000 undefended, .970 defended" in shown
