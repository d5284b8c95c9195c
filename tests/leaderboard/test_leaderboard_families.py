"""Which families make up a task's score: tasks that suffixes cannot reach, and suffixes of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from row_factory import (
    ATTACKS,
    BUDGETS,
    NEVER,
    TOKEN_ATTACK,
    TOKENS,
    cell,
    default_cells,
    frozen,
    residual_cells,
    rows,
    suffix_cells,
    suite,
    token_cells,
    write_run,
)

from leaderboard.aggregate import leaderboard, read_run
from leaderboard.runs import MeasuredCell
from leaderboard.schema import Entry

HALF = [0.01] * 16 + [NEVER] * 16
QUARTER = [0.01] * 24 + [NEVER] * 8
RESIDUAL = ["after_edit", "before_edit"]


def only(directory: Path) -> Entry:
    return leaderboard([read_run(directory)], resamples=300).entries[0]


def test_a_task_that_suffixes_cannot_reach_is_scored_by_before_edit_alone(tmp_path: Path) -> None:
    cells = [*residual_cells(HALF, task="tpp"), *default_cells(QUARTER, HALF, task="ioi")]
    tasks = frozen("ioi") | frozen("tpp", threat_models=RESIDUAL, suffix_budgets=[], suffix_ceiling=None)
    entry = only(write_run(tmp_path / "run", cells, tasks=tasks))
    assert entry.verdict.status == "ranked" and entry.verdict.reasons == []
    probe = entry.per_task["tpp"]
    assert probe.scored_families == ["before_edit"] and probe.score.value == 0.5
    assert probe.aurc_suffix.value is None and probe.suffix_gap.value is None
    head = entry.headline
    assert head.wrs_selective.value == pytest.approx((0.5 + 0.25) / 2)
    assert (head.aurc_suffix.value, head.suffix_gap.value) == (0.5, 0.25), "over the tasks that suffixes can reach"
    assert head.suffix_gap.interval is not None


def test_only_such_tasks_leave_the_suffix_gap_null_and_the_entry_ranked(tmp_path: Path) -> None:
    cells = residual_cells(HALF, task="tpp")
    entry = only(write_run(tmp_path / "run", cells, tasks=frozen("tpp", threat_models=RESIDUAL)))
    assert entry.verdict.status == "ranked" and entry.headline.wrs_selective.value == 0.5
    assert entry.headline.suffix_gap.value is None and entry.headline.aurc_suffix.value is None


def test_without_the_field_all_threat_models_apply_and_a_missing_suffix_is_noticed(tmp_path: Path) -> None:
    entry = only(write_run(tmp_path / "run", residual_cells(HALF)))
    assert any("has no soft_suffix curve" in reason for reason in entry.verdict.reasons)
    assert entry.headline.wrs_selective.value is None


def test_a_suite_without_suffix_budgets_asks_for_no_suffix(tmp_path: Path) -> None:
    entry = only(write_run(tmp_path / "run", residual_cells(HALF), tasks=frozen("ioi", suffix_budgets=[])))
    assert entry.verdict.status == "ranked" and entry.per_task["ioi"].scored_families == ["before_edit"]


def with_tokens(tmp_path: Path, cells: list[MeasuredCell], **changes: Any) -> Entry:
    settings: dict[str, Any] = {"tasks": frozen("ioi", token_budgets=list(TOKENS))}
    return only(write_run(tmp_path / "run", cells, **(settings | changes)))


def test_token_suffixes_have_a_curve_over_tokens_and_count_as_a_worst_case(tmp_path: Path) -> None:
    typed = [2.0] * 8 + [8.0] * 16 + [NEVER] * 8
    cells = [*residual_cells([NEVER] * 32), *suffix_cells(HALF), *token_cells(typed)]
    entry = with_tokens(tmp_path, cells, suite=suite(["ioi"], attacks=[*ATTACKS, TOKEN_ATTACK]))
    result = entry.per_task["ioi"]
    curve = result.curves["token_suffix"]
    assert curve.budgets == list(TOKENS) and curve.threat_models == ["token_suffix"]
    assert [one.value for one in curve.raw.rs] == [0.75, 0.75, 0.25]
    area = np.trapezoid([0.75, 0.75, 0.25], np.log2(TOKENS)) / 2
    assert curve.raw.aurc.value == pytest.approx(area) and area > 0.5
    assert result.curves["soft_suffix"].raw.aurc.value == 0.5
    assert result.aurc_suffix.value == 0.5 and result.score.value == 0.5
    assert result.suffix_gap.value == -0.5 and entry.verdict.status == "ranked"


def test_the_token_suffix_lowers_the_score_where_it_is_the_stronger_one(tmp_path: Path) -> None:
    cells = [*default_cells(HALF, HALF), *token_cells([1.0] * 24 + [NEVER] * 8)]
    entry = with_tokens(tmp_path, cells, suite=suite(["ioi"], attacks=[*ATTACKS, TOKEN_ATTACK]))
    assert entry.per_task["ioi"].aurc_suffix.value == 0.25 and entry.headline.wrs_selective.value == 0.25


def test_token_suffixes_are_demanded_only_where_the_suite_lists_one_and_gives_budgets(tmp_path: Path) -> None:
    cells, listed = default_cells(HALF, HALF), suite(["ioi"], attacks=[*ATTACKS, TOKEN_ATTACK])
    missing = with_tokens(tmp_path / "missing", cells, suite=listed)
    assert [one for one in missing.verdict.reasons if "no token_suffix curve" in one]
    assert missing.headline.wrs_selective.value is None
    unlisted = with_tokens(tmp_path / "unlisted", cells)
    without = with_tokens(tmp_path / "without", cells, suite=listed, tasks=frozen("ioi"))
    for entry in (unlisted, without):
        assert entry.verdict.status == "ranked" and entry.headline.wrs_selective.value == 0.5


def test_numbers_of_tokens_are_not_held_against_the_ceiling_of_eps(tmp_path: Path) -> None:
    """The ceiling of soft suffixes is 0.4 here; eight tokens are no share of a norm."""
    entry = with_tokens(tmp_path, [*default_cells(HALF, HALF), *token_cells([8.0] * 32)])
    points = next(one for one in entry.per_task["ioi"].cells if one.attack == "gcg").budgets
    assert [(point.eps, point.recovered) for point in points] == [(2, 0), (4, 0), (8, 32)]


def test_after_edit_is_reported_within_tau_and_within_the_papers_limit(tmp_path: Path) -> None:
    def at(drift: float) -> MeasuredCell:
        return cell(rows(HALF, threat_model="after_edit", drift_abs=1.0, drift_rel=drift))

    others = [one for one in default_cells(HALF, HALF) if one.plan.threat_model != "after_edit" or not one.plan.attacks]
    seen = {}
    for drift in (0.02, 0.05, 0.5):
        head = only(write_run(tmp_path / str(drift), [*others, at(drift)])).headline
        areas = (head.aurc_after_edit, head.aurc_after_edit_within_tau, head.aurc_after_edit_within_paper_tau)
        seen[drift] = [one.value for one in areas]
    assert seen == {0.02: [0.5, 0.5, 0.5], 0.05: [0.5, 0.5, 1], 0.5: [0.5, 1, 1]}, "tau is 0.1 here"


def test_curves_of_one_task_lie_on_their_own_budgets(tmp_path: Path) -> None:
    entry = with_tokens(tmp_path, [*default_cells(HALF, HALF), *token_cells(QUARTER)])
    budgets = {name: curve.budgets for name, curve in entry.per_task["ioi"].curves.items()}
    assert budgets["before_edit"] == list(BUDGETS) and budgets["token_suffix"] == list(TOKENS)
