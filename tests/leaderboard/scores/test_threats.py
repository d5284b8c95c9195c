"""Which threat models make up a task's score: all that ``run.json`` says are scored, apply and are attacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leaderboard.board.schema import Entry
from leaderboard.rows.manifest import ThreatRecord
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.threats import curve_kinds, with_role
from tests.leaderboard.row_factory import (
    ATTACKS,
    BUDGETS,
    HALF,
    NEVER,
    QUARTER,
    THREATS,
    TOKEN_ATTACK,
    TOKENS,
    cell,
    default_cells,
    frozen,
    only,
    residual_cells,
    rows,
    suffix_cells,
    suite,
    token_cells,
    write_run,
)

RESIDUAL = ["after_edit", "before_edit"]


def test_every_threat_model_has_a_curve_and_diagnostic_ones_two_more() -> None:
    records = {name: ThreatRecord.model_validate(record) for name, record in THREATS.items()}
    kinds = {kind.name: kind.within for kind in curve_kinds(records, 0.2)}
    assert kinds == dict.fromkeys(THREATS) | {"after_edit_within_tau": 0.2, "after_edit_within_study_limit": 0.03}
    assert "after_edit_within_tau" not in {kind.name for kind in curve_kinds(records, None)}
    assert with_role(records, "primary", "baseline") == ["before_edit", "soft_suffix", "token_suffix"]


def test_a_task_that_no_baseline_can_reach_is_scored_by_the_primary_threat_alone(tmp_path: Path) -> None:
    cells = [*residual_cells(HALF, task="tpp"), *default_cells(QUARTER, HALF, task="ioi")]
    tasks = frozen("ioi") | frozen("tpp", threat_models=RESIDUAL, budgets={"soft_suffix": []})
    entry = only(write_run(tmp_path / "run", cells, tasks=tasks))
    assert entry.verdict.status == "ranked" and entry.verdict.reasons == []
    probe = entry.per_task["tpp"]
    assert probe.scored_threats == ["before_edit"] and probe.score.value == 0.5
    assert probe.aurc_baseline.value is None and probe.baseline_gap.value is None
    head = entry.headline
    assert head.wrs.value == pytest.approx((0.5 + 0.25) / 2)
    assert (head.aurc_baseline.value, head.baseline_gap.value) == (0.5, 0.25), "over the tasks that have a baseline"
    assert head.baseline_gap.interval is not None
    assert head.aurc["soft_suffix"].value == 0.5 and head.aurc["before_edit"].value == head.aurc_primary.value == 0.375


def test_only_such_tasks_leave_the_gap_null_and_the_entry_ranked(tmp_path: Path) -> None:
    entry = only(write_run(tmp_path / "run", residual_cells(HALF), tasks=frozen("ioi", threat_models=RESIDUAL)))
    assert entry.verdict.status == "ranked" and entry.headline.wrs.value == 0.5
    assert entry.headline.baseline_gap.value is None and entry.headline.aurc_baseline.value is None
    assert "soft_suffix" not in entry.headline.aurc


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, True),
        ({"tasks": frozen("ioi", budgets={"soft_suffix": []})}, False),
        ({"suite": suite(["ioi"], attacks=ATTACKS[:-1])}, False),
        ({"suite": suite(["ioi"], attacks=None)}, False),
    ],
    ids=["listed", "no budgets", "not listed", "the run does not say"],
)
def test_a_threat_model_is_demanded_where_it_has_budgets_and_the_suite_attacks_with_it(
    tmp_path: Path, changes: dict[str, Any], missing: bool
) -> None:
    entry = only(write_run(tmp_path / "run", residual_cells(HALF), **changes))
    assert any("has no soft_suffix curve" in reason for reason in entry.verdict.reasons) == missing
    assert entry.headline.wrs.value == (None if missing else 0.5)
    assert ("soft_suffix" in entry.per_task["ioi"].scored_threats) == missing


@pytest.mark.parametrize("listed", [True, False])
def test_the_rule_is_the_same_for_the_primary_threat(tmp_path: Path, listed: bool) -> None:
    attacks = ATTACKS if listed else ATTACKS[1:]
    entry = only(write_run(tmp_path / "run", suffix_cells(HALF), suite=suite(["ioi"], attacks=attacks)))
    assert entry.per_task["ioi"].scored_threats == (["before_edit"] if listed else []) + ["soft_suffix"]
    assert entry.headline.wrs.value == (None if listed else 0.5)
    assert entry.headline.baseline_gap.value is None and entry.headline.eps50.value is None


def with_tokens(tmp_path: Path, cells: list[MeasuredCell], **changes: Any) -> Entry:
    settings: dict[str, Any] = {"tasks": frozen("ioi", budgets={"token_suffix": TOKENS})}
    return only(write_run(tmp_path / "run", cells, **(settings | changes)))


def test_token_suffixes_have_a_curve_over_tokens_and_count_as_a_worst_case(tmp_path: Path) -> None:
    typed = [2.0] * 8 + [8.0] * 16 + [NEVER] * 8
    cells = [*residual_cells([NEVER] * 32), *suffix_cells(HALF), *token_cells(typed)]
    entry = with_tokens(tmp_path, cells, suite=suite(["ioi"], attacks=[*ATTACKS, TOKEN_ATTACK]))
    result = entry.per_task["ioi"]
    curve = result.curves["token_suffix"]
    assert curve.budgets == list(TOKENS) and result.curves["before_edit"].budgets == list(BUDGETS)
    assert [one.value for one in curve.raw.rs] == [0.75, 0.75, 0.25]
    assert curve.raw.aurc.value == pytest.approx(0.75), "what takes all the tokens holds until then"
    assert result.curves["soft_suffix"].raw.aurc.value == 0.5
    assert result.aurc_baseline.value == 0.5 and result.score.value == 0.5
    assert result.baseline_gap.value == -0.5 and entry.verdict.status == "ranked"
    points = next(one for one in result.cells if one.attack == "gcg").budgets
    assert [(point.budget, point.recovered) for point in points] == [(2, 8), (4, 8), (8, 24)], (
        "the ceiling of eps, 0.4, is none of tokens"
    )


def test_what_the_suite_does_not_list_and_was_run_lowers_the_score_all_the_same(tmp_path: Path) -> None:
    cells = [*default_cells(HALF, HALF), *token_cells([1.0] * 24 + [NEVER] * 8)]
    entry = with_tokens(tmp_path, cells)
    assert entry.per_task["ioi"].aurc_baseline.value == 0.25 and entry.headline.wrs.value == 0.25
    assert entry.per_task["ioi"].scored_threats == ["before_edit", "soft_suffix", "token_suffix"]


def test_diagnostic_threats_are_reported_within_tau_and_within_the_studys_limit_and_never_scored(
    tmp_path: Path,
) -> None:
    def at(drift: float) -> MeasuredCell:
        return cell(rows([0.01] * 32, threat_model="after_edit", drift_abs=1.0, drift_rel=drift))

    others = [one for one in default_cells(HALF, HALF) if one.plan.threat_model != "after_edit" or not one.plan.attacks]
    seen = {}
    for drift in (0.02, 0.05, 0.5):
        head = only(write_run(tmp_path / str(drift), [*others, at(drift)])).headline
        assert head.wrs.value == 0.5
        names = ("after_edit", "after_edit_within_tau", "after_edit_within_study_limit")
        seen[drift] = [head.aurc[name].value for name in names]
    assert seen == {0.02: [0, 0, 0], 0.05: [0, 0, 1], 0.5: [0, 1, 1]}, "tau is 0.1 here"
