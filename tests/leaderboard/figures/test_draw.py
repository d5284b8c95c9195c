"""Figures are drawn from rows, and say what they cannot draw."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import UsageError
from benchmark.schema import table
from leaderboard import figures
from leaderboard.runs import MeasuredCell, PlannedCell

pytest.importorskip("matplotlib")


def row(example: int, eps: float, recovered: bool, **columns: Any) -> dict[str, Any]:
    fixed = {"suppressed": True, "eligible": True, "status": "ok", "sanity": False, "drift_pre_abs": 0.1}
    return {"example_id": f"e{example}", "budget_eps": eps, "recovered": recovered, **fixed, **columns}


def cell(attack: str, rows: list[dict[str, Any]], **plan: Any) -> MeasuredCell:
    settings = {"threat_model": "before_edit", "constraint": "none", "goal": "behavior", "role": "attack", **plan}
    return MeasuredCell(
        PlannedCell(key=attack, task="toy", defense="clamp", attack=attack, file="x", **settings), table(rows)
    )


def run(*cells: MeasuredCell) -> Any:
    return SimpleNamespace(cells=cells)


ATTACK = cell("recovery", [row(0, 0.1, False), row(0, 0.2, True), row(1, 0.1, True), row(1, 0.2, True)])
WRONG = cell("wrong-target", [row(0, 0.1, False), row(0, 0.2, False)], goal="wrong")


def test_a_line_is_the_share_of_the_suppressed_at_each_budget() -> None:
    (line, points), (wrong, _) = figures._lines([ATTACK, WRONG])
    assert line.label == "before the defense" and wrong.label == "wrong target"
    assert [(p.eps, p.share) for p in points] == [(0.1, 0.5), (0.2, 1.0)] and points[0].drift == 0.1


def test_rows_that_do_not_count_are_left_out() -> None:
    odd = [row(0, 0.1, True, sanity=True), row(0, 0.1, True, status="error"), row(1, 0.1, True, suppressed=False)]
    assert figures._points(table(odd).to_pylist()) == []


def test_only_what_was_measured_is_drawn(tmp_path: Path) -> None:
    names = {path.name for path in figures.draw([run(ATTACK, WRONG)], tmp_path / "new")}
    assert names == {f"{kind}__clamp.{ending}" for kind in ("recovery", "drift") for ending in ("svg", "png")}
    split = row(0, 0.1, True, attr_random_recovered=0.1, attr_residual_recovered=True, attr_other_recovered=False)
    names = {path.name for path in figures.draw([run(cell("recovery", [split]))], tmp_path)}
    assert "replay__clamp.png" in names


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        figures.draw([run(WRONG)], tmp_path)
