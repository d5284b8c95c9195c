"""Two ways of attacking one defense, at equal shares of their ceilings, example by example."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from benchmark.errors import UsageError
from leaderboard import commands
from leaderboard.board.against import Against, BaselineComparison, against
from leaderboard.board.side import side
from leaderboard.rows.run import MeasuredCell
from leaderboard.tables.compare import render_against
from tests.leaderboard.row_factory import BUDGETS, HALF, NEVER, cell, frozen, rows, write_run

STREAM = [0.05] * 8 + [0.1] * 8 + [0.2] * 8 + [0.4] * 8
"""Back by a perturbation: a quarter at each of the budgets, of which .4 is the ceiling."""
SUFFIX = [0.4] * 16 + [NEVER] * 16
"""Back by a suffix: half of them, at the ceiling only."""
TWO: dict[str, Any] = {"threat_model": "soft_suffix", "attack": "soft-suffix"}


def run(
    folder: Path, *more: MeasuredCell, stream: list[float] = STREAM, suffix: list[float] = SUFFIX, **changes: Any
) -> str:
    cells = [cell(rows(stream, drift_abs=0.5, first_success_drift=0.5)), cell(rows(suffix, **TWO)), *more]
    return str(write_run(folder / "run", cells, **changes))


def found(folder: Path, *more: MeasuredCell, way: str = "soft-suffix", **changes: Any) -> BaselineComparison:
    return against(side(run(folder, *more, **changes)), way, resamples=400)


def one(held: BaselineComparison) -> Against:
    (only,) = held.per_task
    return only


def test_what_comes_back_is_counted_at_equal_shares_of_the_ceilings(tmp_path: Path) -> None:
    got = one(found(tmp_path))
    assert (got.task, got.first, got.second, got.suppressed) == ("ioi", "before_edit", "soft-suffix", 32)
    shares = [(at.share, at.any.first.value, at.any.second.value, at.any.difference.value) for at in got.reach]
    assert shares == [(0.25, 0.5, 0.0, 0.5), (0.5, 0.75, 0.0, 0.75), (1.0, 1.0, 0.5, 0.5)]


def test_units_do_not_matter_only_the_share_of_the_ceiling_does(tmp_path: Path) -> None:
    """The same suffix, every budget ten times as large."""
    large = [eps * 10 for eps in BUDGETS]
    ten = cell(rows([eps * 10 for eps in SUFFIX], budgets=large, **TWO))
    grids = {"budgets": {"soft_suffix": large}, "ceilings": {"soft_suffix": 4.0}}
    cells = [cell(rows(STREAM)), ten]
    scaled = write_run(tmp_path / "scaled", cells, tasks=frozen("ioi", **grids))
    plain, other = one(found(tmp_path)), one(against(side(str(scaled)), "soft-suffix", resamples=400))
    assert plain.reach == other.reach and plain.area == other.area


def test_the_difference_is_paired_by_example(tmp_path: Path) -> None:
    """Half come back by either: whether they are the same half is no matter of the shares, but of the interval."""
    same, apart = (
        one(found(tmp_path / name, stream=HALF, suffix=suffix)).reach[-1].any.difference
        for name, suffix in (("same", HALF), ("apart", HALF[::-1]))
    )
    assert same.value == apart.value == 0 and same.interval is not None and apart.interval is not None
    assert apart.interval.high - apart.interval.low > 1.5 * (same.interval.high - same.interval.low)


def test_a_share_below_every_budget_says_nothing(tmp_path: Path) -> None:
    """Of a suffix with one budget, a quarter of its ceiling is less than it can write."""
    alone = cell(rows([0.4] * 32, budgets=(0.4,), **TWO))
    tasks = frozen("ioi", budgets={"soft_suffix": [0.4]})
    got = one(against(side(str(write_run(tmp_path / "run", [cell(rows(STREAM)), alone], tasks=tasks))), "soft-suffix"))
    assert [at.any.second.value for at in got.reach] == [None, None, 1.0]
    assert got.reach[0].any.first.value == 0.5 and got.reach[0].any.difference.value is None


def test_what_it_took_stands_beside_it(tmp_path: Path) -> None:
    first, second = one(found(tmp_path)).effort
    assert (first.recovered, second.recovered, first.drift_abs, second.drift_abs) == (32, 16, 0.5, None)
    assert first.forwards == pytest.approx(2 * (len(BUDGETS) + 1)), "two a row, the sanity budget's too"


def test_where_the_other_way_was_not_run_is_told(tmp_path: Path) -> None:
    held = found(tmp_path, cell(rows(STREAM, task="tpp")))
    assert [x.task for x in held.per_task] == ["ioi"] and held.left_out == ["tpp"]
    out = io.StringIO()
    render_against(held, Console(file=out, width=100))
    assert "back at 0.25 of the ceiling" in out.getvalue() and "not compared: tpp" in out.getvalue()


def test_a_way_that_was_not_tried_or_is_several_is_refused_with_what_there_is(tmp_path: Path) -> None:
    behind = cell(rows(STREAM, threat_model="after_edit"))
    with pytest.raises(
        UsageError, match="not attacked clamp by 'gcg'; it has: after_edit, before_edit, recovery, soft"
    ):
        found(tmp_path / "a", behind, way="gcg")
    with pytest.raises(UsageError, match="several threat models; name one of them: after_edit, before_edit"):
        found(tmp_path / "b", behind, way="recovery")
    assert one(found(tmp_path / "c", behind, way="after-edit")).second == "after-edit"


def test_the_command_prints_it_and_wants_one_thing_to_compare_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = run(tmp_path)
    commands.compare(where, against="soft-suffix", as_json=True)
    assert BaselineComparison.model_validate_json(capsys.readouterr().out).against == "soft-suffix"
    for second, way in ((None, None), (where, "soft-suffix")):
        with pytest.raises(UsageError, match="give a second run directory, or --against"):
            commands.compare(where, second, against=way)
    with pytest.raises(typer.Exit):
        commands.compare(where, where)
