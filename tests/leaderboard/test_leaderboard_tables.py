"""The tables: everything a reader needs is there, in plain text, within the width of the console."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from row_factory import NEVER, cell, default_cells, rows, write_run

from leaderboard.aggregate import leaderboard, read_run
from leaderboard.schema import Leaderboard
from leaderboard.tables import render
from leaderboard.values import Eps50, Estimate, Interval
from leaderboard.wording import half_point, interval, number, share

FIRST = [0.05] * 20 + [0.2] * 20 + [NEVER] * 20


def board(directory: Path) -> Leaderboard:
    cells = default_cells(FIRST, FIRST, first_success_eps=0.04, first_success_drift=0.3, flags=["zero-gradient"])
    cells += default_cells([NEVER] * 60, [NEVER] * 60, defense="none", suppressed=False)
    return leaderboard([read_run(write_run(directory, cells))], resamples=100)


def text(made: Leaderboard, width: int) -> str:
    out = io.StringIO()
    render(made, Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 140])
def test_plain_text_says_it_all_within_the_width(tmp_path: Path, width: int) -> None:
    shown = text(board(tmp_path / "run"), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "\x1b" not in shown and "\u2026" not in shown
    for word in (
        "ioi: 60 of 60 eligible examples suppressed",
        "(after_edit/encoder)",
        "random-direction",
        "wrong-target",
        "soft-suffix",
        "sel .67",
        ".23-.46",
        "(must be 0)",
        "[1] zero-gradient (lower-bound-only)",
        "clamp is not ranked: flag zero-gradient",
        "smallest AURC",
    ):
        assert word in shown, word


def test_many_budgets_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    budgets = tuple(round(0.01 * step, 2) for step in range(1, 21))
    run = write_run(tmp_path / "run", [cell(rows([NEVER] * 40, budgets))])
    shown = text(leaderboard([read_run(run)], resamples=50), 100)
    head = next(line for line in shown.splitlines() if line.startswith("threat model"))
    assert " 0.01 " in head and " 0.2 " in head
    assert max(map(len, shown.splitlines())) <= 100


def test_one_entry_can_be_shown_alone(tmp_path: Path) -> None:
    out = io.StringIO()
    render(board(tmp_path / "run").entries[0], Console(file=out, width=120))
    assert "AURC before_edit: " in out.getvalue()


def test_numbers_as_words() -> None:
    assert [number(0.456), number(1.0), number(-0.051), number(None)] == [".46", "1.00", "-.05", "-"]
    low = Interval(low=-0.1, high=0.05, method="cluster-bootstrap")
    assert interval(low) == "-.10 to .05"
    assert share(Estimate(value=0.5, interval=None)) == ".50"
    words = [half_point(Eps50(value=0.4, censored=way)) for way in ("above", "below", None)]
    assert words == ["> 0.4", "<= 0.4", "0.4"] and half_point(Eps50(value=None)) == "-"
