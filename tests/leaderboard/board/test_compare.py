"""Two measurements side by side: what differs is told with its size and its examples, and unlike ones are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from benchmark.errors import UsageError
from leaderboard import commands
from leaderboard.board.compare import Differences, compare
from leaderboard.board.side import side
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.intervals import holm
from leaderboard.tables.compare import render
from tests.leaderboard.row_factory import NEVER, cell, control, frozen, rows, suite, write_run

TASKS = ("ioi", "unlearning")
GOOD = [0.01] * 8 + [NEVER] * 24
BAD = [0.01] * 24 + [NEVER] * 8
"""Of the same examples, twice as many lost: from the 9th to the 24th."""
ONE_MORE = [0.01] * 9 + [NEVER] * 23
MODEL = {"id": "organism", "revision": None, "weights_sha": "another"}


def run(folder: Path, first: list[float], /, defense: str = "clamp", **changes: Any) -> str:
    """A run in which ``defense`` was attacked under one scored and one diagnostic threat model."""
    tasks = changes.pop("on", TASKS)
    ways: tuple[dict[str, Any], ...] = ({}, {"threat_model": "after_edit"})
    cells: list[MeasuredCell] = [cell(rows(first, task=t, defense=defense, **way)) for t in tasks for way in ways]
    return str(write_run(folder, cells, **changes))


def found(tmp_path: Path, first: list[float], second: list[float]) -> Differences:
    return compare(side(run(tmp_path / "a", first)), side(run(tmp_path / "b", second)), resamples=400)


def test_the_worse_of_two_is_told_with_the_examples_that_it_lost(tmp_path: Path) -> None:
    got = found(tmp_path, GOOD, BAD)
    assert got.lost == [(task, "before_edit") for task in TASKS]
    for task in TASKS:
        one = got.per_task[task].threats["before_edit"]
        assert one.area.difference.value == pytest.approx(0.5) and one.p is not None and one.p < 0.05
        assert one.flips.first == [f"e{i:03d}" for i in range(8, 24)] and one.flips.second == []


def test_the_other_way_round_it_is_no_loss(tmp_path: Path) -> None:
    got = found(tmp_path, BAD, GOOD)
    one = got.per_task["ioi"].threats["before_edit"]
    assert got.lost == [] and one.area.difference.value == pytest.approx(-0.5)
    assert one.flips.first == [] and len(one.flips.second) == 16


def test_what_is_too_small_to_be_seen_is_no_loss_and_its_size_is_told(tmp_path: Path) -> None:
    got = found(tmp_path, GOOD, ONE_MORE)
    one = got.per_task["ioi"].threats["before_edit"]
    assert got.lost == [] and one.flips.first == ["e008"]
    assert one.area.detectable is not None and one.area.detectable > (one.area.difference.value or 0) > 0


def test_a_larger_difference_than_the_smallest_detectable_one_is_seen(tmp_path: Path) -> None:
    one = found(tmp_path, GOOD, BAD).per_task["ioi"].threats["before_edit"]
    assert one.area.detectable is not None and one.area.detectable < (one.area.difference.value or 0)
    # 16 of 32 clusters differ by 1: their deviation is .5, that of their mean .5 / sqrt(32); z of .975 and of .8
    assert one.area.detectable == pytest.approx((1.96 + 0.84) * 0.5 / 32**0.5, rel=0.1)


def test_a_run_is_equal_to_itself(tmp_path: Path) -> None:
    got = found(tmp_path, GOOD, GOOD)
    assert got.lost == []
    for one in got.per_task["ioi"].threats.values():
        assert one.area.difference.value == 0 and one.flips.first == one.flips.second == []


def test_only_scored_threat_models_are_tested_and_p_is_corrected_over_all_of_them(tmp_path: Path) -> None:
    got = found(tmp_path, GOOD, BAD)
    assert {task: one.threats["after_edit"].p for task, one in got.per_task.items()} == dict.fromkeys(TASKS)
    tested = [one.threats["before_edit"] for one in got.per_task.values()]
    assert [one.p for one in tested] == holm([one.area.p for one in tested]) != [one.area.p for one in tested]


def test_what_one_of_them_lacks_is_told_and_the_rest_compared(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", GOOD), run(tmp_path / "b", GOOD, on=("ioi",), suite=suite(TASKS))
    got = compare(side(a), side(b), resamples=400)
    assert [*got.per_task] == ["ioi"] and got.score is None
    assert got.left_out == [f"unlearning x {threat}: the first alone" for threat in ("after_edit", "before_edit")]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"suite": suite(TASKS, hash="fedcba9876543210")}, "suite: embedded 1 .* and embedded 1"),
        ({"model": MODEL}, "model: .* and organism another"),
        ({"dtype": "bfloat16"}, "dtype: float32 and bfloat16"),
        ({"protocol": "paper"}, "protocol: strict and paper"),
        ({"tasks": frozen(*TASKS, examples_hash="def")}, "test examples of ioi: abc and def"),
        ({"tasks": frozen(*TASKS, examples_hash=None)}, "test examples of ioi: abc and unknown"),
    ],
)
def test_what_was_not_measured_alike_is_refused_with_what_differs(
    other: dict[str, Any], told: str, tmp_path: Path
) -> None:
    a, b = run(tmp_path / "a", GOOD), run(tmp_path / "b", GOOD, **other)
    with pytest.raises(UsageError, match=told):
        compare(side(a), side(b), resamples=400)


def test_examples_that_are_unknown_on_both_sides_may_be_others(tmp_path: Path) -> None:
    a, b = (run(tmp_path / name, GOOD, tasks=frozen(*TASKS, examples_hash=None)) for name in ("a", "b"))
    with pytest.raises(UsageError, match="test examples of ioi: unknown and unknown"):
        compare(side(a), side(b), resamples=400)


def test_of_several_defenses_one_has_to_be_named(tmp_path: Path) -> None:
    cells = [cell(rows(GOOD, defense=name)) for name in ("clamp", "other")]
    both = write_run(tmp_path / "run", cells)
    with pytest.raises(UsageError, match=f"attacked 2 defenses; name one of them: {both}::clamp, {both}::other"):
        side(str(both))
    with pytest.raises(UsageError, match="attacked no defense 'third'; it has: clamp, other"):
        side(f"{both}::third")
    assert compare(side(f"{both}::clamp"), side(f"{both}::other"), resamples=400).second.defense == "other"
    idle = write_run(tmp_path / "idle", [control(rows([NEVER] * 32, budgets=(0.0,), attack="zero"))])
    with pytest.raises(UsageError, match="attacked no defense: there is nothing to compare"):
        side(str(idle))


def test_the_table_has_the_numbers_and_ends_in_a_verdict(tmp_path: Path) -> None:
    out = io.StringIO()
    render(found(tmp_path, GOOD, BAD), Console(file=out, width=120))
    printed = out.getvalue()
    assert "AURC before_edit" in printed and "16 / 0" in printed and "the first alone holds e008, e009" in printed
    assert (
        "the second (clamp) holds worse than the first (clamp) on ioi (before_edit), unlearning (before_edit)"
        in printed
    )


@pytest.mark.parametrize(("second", "code"), [(BAD, 1), (GOOD, 0)])
def test_the_command_ends_in_1_on_a_significant_loss_and_prints_json(
    second: list[float], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        commands.compare(run(tmp_path / "a", GOOD), run(tmp_path / "b", second), as_json=True)
    assert ended.value.exit_code == code
    assert Differences.model_validate(json.loads(capsys.readouterr().out)).second.defense == "clamp"
