"""The tables: everything a reader needs is there, in plain text, within the width of the console."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from leaderboard.board.schema import Entry, SuiteBoard
from leaderboard.scores.half_points import Eps50
from leaderboard.scores.values import Estimate, Interval
from leaderboard.tables.board import render
from leaderboard.tables.wording import half_point, interval, number, share
from tests.leaderboard.row_factory import (
    ATTACKS,
    NEVER,
    TOKEN_ATTACK,
    TOKENS,
    board,
    cell,
    default_cells,
    examples,
    frozen,
    rows,
    suite,
    table,
    token_cells,
    write_run,
)

FIRST = [0.05] * 20 + [0.2] * 20 + [NEVER] * 20
Folders = pytest.TempPathFactory


@pytest.fixture(scope="module")
def plain(tmp_path_factory: Folders) -> SuiteBoard:
    """A run of two defenses, one of which does nothing."""
    cells = default_cells(FIRST, FIRST, first_success_eps=0.04, first_success_drift=0.3, flags=["zero-gradient"])
    cells += default_cells([NEVER] * 60, [NEVER] * 60, defense="none", suppressed=False)
    tasks = frozen(
        "ioi", steered={"before_edit": {}}
    )  # undefended, nobody is steered: all that comes back is selective
    return board(write_run(tmp_path_factory.mktemp("plain") / "run", cells, tasks=tasks))


@pytest.fixture(scope="module")
def rich(tmp_path_factory: Folders) -> SuiteBoard:
    """A run with everything that only some have: a monitor, parts, tokens, degenerate output."""
    parts = {
        f"attr_{part}_{name}": value
        for part in ("clamped", "other", "residual")
        for name, value in (("share", 0.6), ("recovered", True), ("equal_recovered", True))
    }
    facts: dict[str, Any] = parts | {
        "task": "refusal",
        "attr_random_recovered": 0.125,
        "attr_cos_clamped_other": -0.21,
        "detected": True,
        "label_defended": "degenerate",
        "first_success_eps": 0.04,
        "min_eps": 0.017,
    }
    broken = [one | {"outcome": "degenerate"} for one in examples(FIRST, constraint="jacobian", **facts)]
    jacobian = [one | {"outcome": "recovered"} if one["recovered"] else one for one in broken]
    few = [
        one | ({"attr_clamped_recovered": None} if str(one["example_id"]) < "e030" else {})
        for one in examples(FIRST, **facts)
    ]
    cells = [one for one in default_cells(FIRST, FIRST, **facts) if one.plan.threat_model != "before_edit"]
    run = write_run(
        tmp_path_factory.mktemp("rich") / "run",
        [cell(table(few)), *cells, *token_cells([4.0] * 20 + [NEVER] * 40, **facts), cell(table(jacobian))],
        fits={
            "task_figures": {"tpp_score": 0.3003, "accuracy_drop": {"nurse": 0.5, "chef": 0.25}},
            "monitor_false_positives": 0.01,
        },
        suite=suite(["refusal"], attacks=[*ATTACKS, TOKEN_ATTACK]),
        tasks=frozen("refusal", budgets={"token_suffix": TOKENS}),
        protocol="loose",
        ranked=False,
    )
    return board(run)


def text(made: SuiteBoard | Entry, width: int = 120) -> str:
    out = io.StringIO()
    render(made, Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_plain_text_says_it_all_within_the_width(plain: SuiteBoard, width: int) -> None:
    printed = text(plain, width)
    assert max(map(len, printed.splitlines())) <= width
    assert "\x1b" not in printed and "\u2026" not in printed
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
        "Paired differences",
        "smallest AURC",
    ):
        assert word in printed, word


def test_the_legend_names_the_threat_models_of_the_run(plain: SuiteBoard) -> None:
    legend = " ".join(text(plain, 200).split("norm of the perturbation", 1)[1].split())
    for words in (
        "the primary threat models (before_edit)",
        "the baselines (soft_suffix, token_suffix)",
        "the diagnostic ones (after_edit)",
        "token_suffix: number of tokens",
    ):
        assert words in legend


def test_many_budgets_are_thinned_and_keep_their_ends(tmp_path_factory: Folders) -> None:
    budgets = tuple(round(0.01 * step, 2) for step in range(1, 21))
    run = write_run(tmp_path_factory.mktemp("many") / "run", [cell(rows([NEVER] * 40, budgets))])
    printed = text(board(run), 100)
    head = next(line for line in printed.splitlines() if line.startswith("threat model"))
    assert " 0.01 " in head and " 0.2 " in head
    assert max(map(len, printed.splitlines())) <= 100


def test_one_entry_can_be_printed_alone(plain: SuiteBoard) -> None:
    assert "AURC before_edit: " in text(plain.entries[0])


@pytest.mark.parametrize("width", [80, 120])
def test_what_only_some_defenses_have_is_printed_for_them(rich: SuiteBoard, width: int) -> None:
    printed = text(rich, width)
    assert max(map(len, printed.splitlines())) <= width and "\u2026" not in printed
    for word in (
        "protocol loose",
        "tpp_score .300",
        "accuracy_drop: nurse .500, chef .250",
        "token_suffix: ",
        "after_edit with drift <= .03",
        "monitor: 1.00",
        "und .00",
        "det 1.00",
        "carried by",
        "clamped (n = 10)",
        "cosines, recovery before_edit: clamped_other -.21",
        ".12 (",
        "(100.0% degenerate)",
        "jacobian",
        ".017",
    ):
        assert word in " ".join(printed.split()), word
    assert next(line for line in printed.splitlines() if line.split()[:3] == ["attack", "supp.", "tokens"])
    first = next(line for line in printed.splitlines() if "degen." in line)
    assert first.split().index("degen.") > first.split().index("eps")


def test_what_a_fit_settled_on_is_printed(plain: SuiteBoard) -> None:
    assert "fitted: n latents 20, strength 1.5" in text(plain)
    silent = plain.entries[0].defense.model_copy(update={"record": {}})
    assert "fitted:" not in text(plain.entries[0].model_copy(update={"defense": silent}))


def test_what_a_defense_does_not_have_is_not_printed(plain: SuiteBoard) -> None:
    made = text(plain)
    tables = made[: made.index("norm of the perturbation")]
    for word in ("monitor", "carried by", "degen.", "tokens", "defended outputs", "cosines", "protocol"):
        assert word not in tables, word


def test_degenerate_outputs_are_counted_and_shared_out(rich: SuiteBoard) -> None:
    lines = text(rich).splitlines()
    start = next(place for place, line in enumerate(lines) if "degen." in line)
    rows_of_jacobian = next(place for place in range(start, len(lines)) if lines[place].startswith("jacobian"))
    assert " 20 " in lines[rows_of_jacobian - 2] and " .33 " in lines[rows_of_jacobian - 1]


def test_delta_is_that_of_the_first_success_where_the_smallest_is_unknown(plain: SuiteBoard, rich: SuiteBoard) -> None:
    assert ".040" in text(plain) and ".040" not in text(rich)


def test_numbers_as_words() -> None:
    assert [number(0.456), number(1.0), number(-0.051), number(None)] == [".46", "1.00", "-.05", "-"]
    low = Interval(low=-0.1, high=0.05, method="cluster-bootstrap")
    assert interval(low) == "-.10 to .05"
    assert share(Estimate(value=0.5, interval=None)) == ".50"
    words = [half_point(Eps50(value=0.4, censored=way)) for way in ("above", "below", None)]
    assert words == ["> 0.4", "<= 0.4", "0.4"] and half_point(Eps50(value=None)) == "-"
