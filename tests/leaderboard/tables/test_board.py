"""The tables: everything a reader needs is there, in plain text, within the width of the console."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from row_factory import (
    ATTACKS,
    NEVER,
    TOKEN_ATTACK,
    TOKENS,
    cell,
    default_cells,
    examples,
    frozen,
    rows,
    suite,
    token_cells,
    write_run,
)

from benchmark.schema import table
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


def refusing(directory: Path, **common: Any) -> Leaderboard:
    """A run with everything that only some have: a monitor, attribution, tokens, degenerate output."""
    parts = {
        f"attr_{part}_{name}": value
        for part in ("clamped", "other", "residual")
        for name, value in (("share", 0.6), ("recovered", True), ("equal_recovered", True))
    }
    facts: dict[str, Any] = parts | {
        "task": "refusal",
        "attr_random_recovered": 0.125,
        "attr_cos_clamped_other": -0.21,
        "attr_cos_other_residual": 0.4,
        "detected": True,
        "label_defended": "degenerate",
        "first_success_eps": 0.04,
        "min_eps": 0.017,
    }
    cells = [*default_cells(FIRST, FIRST, **(facts | common)), *token_cells([4.0] * 20 + [NEVER] * 40, **facts)]
    broken = [one | {"outcome": "degenerate"} for one in examples(FIRST, constraint="jacobian", **facts)]
    jacobian = [one | {"outcome": "recovered"} if one["recovered"] else one for one in broken]
    figures = {"tpp_score": 0.3003, "accuracy_drop": {"nurse": 0.5, "chef": 0.25}}
    run = write_run(
        directory,
        [*cells, cell(table(jacobian))],
        fits={"task_figures": figures, "monitor_false_positives": 0.01},
        suite=suite(["refusal"], attacks=[*ATTACKS, TOKEN_ATTACK]),
        tasks=frozen("refusal", token_budgets=list(TOKENS)),
    )
    return leaderboard([read_run(run)], resamples=50)


@pytest.mark.parametrize("width", [80, 120])
def test_what_only_some_defenses_have_is_shown_for_them(tmp_path: Path, width: int) -> None:
    shown = text(refusing(tmp_path / "run"), width)
    assert max(map(len, shown.splitlines())) <= width and "\u2026" not in shown
    for word in (
        "tpp_score .300",
        "accuracy_drop: nurse .500, chef .250",
        "token_suffix: ",
        "drift <= .03",
        "monitor: 1.00",
        "und .00",
        "det 1.00",
        "carried by",
        "cosines, recovery before_edit: clamped_other -.21",
        ".12 (",
        "(100.0% degenerate)",
        "jacobian",
        ".017",
    ):
        assert word in " ".join(shown.split()), word
    assert next(line for line in shown.splitlines() if line.split()[:3] == ["attack", "supp.", "tokens"])
    first = next(line for line in shown.splitlines() if "degen." in line)
    assert first.split().index("degen.") > first.split().index("eps")


def test_what_a_defense_does_not_have_is_not_shown(tmp_path: Path) -> None:
    made = text(board(tmp_path / "run"), 120)
    tables = made[: made.index("norm of the perturbation")]
    for word in ("monitor", "carried by", "degen.", "tokens", "defended outputs", "cosines"):
        assert word not in tables, word


def test_degenerate_outputs_are_counted_and_shared_out(tmp_path: Path) -> None:
    lines = text(refusing(tmp_path / "run"), 120).splitlines()
    start = next(place for place, line in enumerate(lines) if "degen." in line)
    name = next(place for place in range(start, len(lines)) if lines[place].split()[:2] == ["before_edit", "60"])
    rows_of_jacobian = next(place for place in range(start, len(lines)) if lines[place].startswith("jacobian"))
    assert name < rows_of_jacobian
    assert " 20 " in lines[rows_of_jacobian - 2] and " .33 " in lines[rows_of_jacobian - 1]


def test_delta_is_that_of_the_first_success_where_the_smallest_is_unknown(tmp_path: Path) -> None:
    assert ".040" not in text(refusing(tmp_path / "known"), 120)
    assert ".040" in text(refusing(tmp_path / "unknown", min_eps=None), 120)


def test_numbers_as_words() -> None:
    assert [number(0.456), number(1.0), number(-0.051), number(None)] == [".46", "1.00", "-.05", "-"]
    low = Interval(low=-0.1, high=0.05, method="cluster-bootstrap")
    assert interval(low) == "-.10 to .05"
    assert share(Estimate(value=0.5, interval=None)) == ".50"
    words = [half_point(Eps50(value=0.4, censored=way)) for way in ("above", "below", None)]
    assert words == ["> 0.4", "<= 0.4", "0.4"] and half_point(Eps50(value=None)) == "-"
