"""Figures are drawn from rows, whatever the threat models are called, and say what they cannot draw."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import UsageError
from leaderboard.figures.draw import draw, grid
from leaderboard.figures.lines import Line, lines, points, with_points
from leaderboard.figures.panels import on_budgets, on_drift
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.resampling import Resampler
from tests.leaderboard.row_factory import NEVER, cell, control, default_cells, row, rows, table, token_cells, wrong

pytest.importorskip("matplotlib")
BUDGETS = (0.1, 0.2)
RESAMPLER = Resampler(0, 200)


def made(first: list[float], **changes: Any) -> Any:
    return rows(first, changes.pop("budgets", BUDGETS), **({"drift_pre_abs": 0.1} | changes))


def run(*cells: MeasuredCell) -> Any:
    return SimpleNamespace(cells=cells)


ATTACK = cell(made([0.2, 0.1]))
WRONG = wrong(made([NEVER] * 2, attack="wrong-target", goal="wrong"))
RANDOM = control(made([NEVER, 0.2], attack="random-direction"))


def test_a_line_is_the_share_of_the_suppressed_at_each_budget() -> None:
    cells = [ATTACK, WRONG]
    (line, found), (steered, _) = with_points(lines(cells), cells, RESAMPLER)
    assert line.key.label == "before edit" and steered.key.label == "wrong target"
    assert [(p.budget, p.share) for p in found] == [(0.1, 0.5), (0.2, 1.0)] and found[0].drift == 0.1


def test_rows_that_do_not_count_are_left_out() -> None:
    for odd in ({"sanity": True}, {"suppressed": False}, {"eligible": False}):
        assert points([cell(table([row("a", 0.1, recovered=True, **odd)]))], RESAMPLER) == []
        both = points([cell(table([row("a", 0.1, recovered=True, **odd), row("b", 0.2)]))], RESAMPLER)
        assert [p.share for p in both if p.budget == 0.2] == [0.0]
    assert points([cell(made([NEVER] * 2, status="not_run", error="no features"))], RESAMPLER) == []


def test_cells_of_one_access_are_one_line_and_count_an_example_once_any_recovered_it() -> None:
    other = cell(made([0.1, NEVER], attack="another"))
    cells = [ATTACK, other]
    [(_, found)] = with_points(lines(cells), cells, RESAMPLER)
    assert [p.share for p in found] == [1.0, 1.0]


def test_lines_come_by_role_with_controls_last_and_only_the_free_ones_of_primary_threats() -> None:
    cells = [*default_cells([0.05], [0.05]), *token_cells([2.0])]
    cells += [cell(made([0.1], threat_model="after_edit", constraint="jacobian"))]
    assert [line.key.label for line in lines(cells[::-1])] == [
        "before edit",
        "after edit",
        "after edit, encoder null space",
        "after edit, cross-layer Jacobian",
        "soft suffix",
        "token suffix",
        "wrong target",
        "random direction",
    ]


def looks(found: list[Line]) -> dict[str, tuple[str, str, str]]:
    return {line.key.label: (line.colour, line.marker, line.dash) for line in found}


def test_lines_can_be_told_apart_and_look_the_same_in_smaller_company() -> None:
    everything = [*default_cells([0.05], [0.05]), *token_cells([2.0])]
    found, few = looks(lines(everything)), looks(lines([ATTACK, WRONG, RANDOM, *token_cells([2.0])]))
    assert len(set(found.values())) == len(found)
    assert few["before edit"] == found["before edit"] and few["random direction"] == found["random direction"]


def test_numbers_of_tokens_have_no_place_on_an_axis_of_norms() -> None:
    cells = [ATTACK, cell(made([2.0], budgets=(2.0,), attack="gcg", threat_model="token_suffix"))]
    drawn = lines(cells)
    assert [line.key.label for line, _ in on_budgets(drawn, cells, RESAMPLER)] == ["before edit"]
    assert [line.key.label for line, _ in on_drift(drawn, cells, RESAMPLER)] == ["before edit", "token suffix"]
    assert on_drift(drawn, [cell(rows([0.1], BUDGETS))], RESAMPLER) == []


def test_only_what_was_measured_is_drawn(tmp_path: Path) -> None:
    more = {"attr_random_recovered": 0.1, "attr_residual_share": 0.5, "drift_pre_abs": None, "defense": "other"}
    taken_apart = cell(table([one | more for one in ATTACK.rows.to_pylist()]))
    names = {path.name for path in draw([run(ATTACK, WRONG), run(taken_apart)], tmp_path / "new")}
    kinds = ("recovery__clamp", "drift__clamp", "recovery__other", "replay__other")
    assert names == {f"{kind}.{end}" for kind in kinds for end in ("svg", "png")}


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        draw([run(WRONG)], tmp_path)


def test_every_share_has_its_interval_over_clusters() -> None:
    [(_, few)] = with_points(lines([ATTACK]), [ATTACK], RESAMPLER)
    many = cell(made([0.1, 0.2] * 40))
    [(_, narrow)] = with_points(lines([many]), [many], RESAMPLER)
    for found in (*few, *narrow):
        assert found.interval is not None and found.interval.low <= found.share <= found.interval.high
    width = [point.interval.high - point.interval.low for point in (few[0], narrow[0]) if point.interval]
    assert width[1] < width[0] / 2


def test_panels_fill_their_grid() -> None:
    assert [grid(panels) for panels in range(1, 8)] == [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (2, 3), (3, 3)]
