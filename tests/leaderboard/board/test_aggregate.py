"""Runs in, leaderboard out: the headline, ranks, company and the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UsageError
from leaderboard.board.aggregate import leaderboard, suite_board, write
from leaderboard.board.schema import Leaderboard, SuiteBoard
from leaderboard.rows.run import MeasuredCell
from tests.leaderboard.row_factory import (
    BUDGETS,
    HALF,
    NEVER,
    QUARTER,
    SANITY,
    WRONG,
    board,
    cell,
    control,
    default_cells,
    failed,
    frozen,
    only,
    rows,
    suite,
    table,
    write_run,
)

SCORED = [one for one in default_cells(HALF, HALF) if one.threat.scored]
"""Enough for a score and no more."""


SCORES = ("before_edit", "soft_suffix")
"""The threat models that make it."""


def scored_cells(first: list[float], **common: Any) -> list[MeasuredCell]:
    return [one for one in default_cells(first, first, **common) if one.threat.scored]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SuiteBoard:
    """The board of a run of one defense on two tasks."""
    cells = default_cells(HALF, QUARTER, task="ioi") + default_cells(HALF, HALF, task="unlearning")
    return board(write_run(tmp_path_factory.mktemp("whole") / "run", cells), resamples=300)


def test_the_headline_is_the_mean_over_tasks_of_the_smaller_area(made: SuiteBoard) -> None:
    entry = made.entries[0]
    head = entry.headline
    assert entry.per_task["ioi"].score.value == 0.25 and entry.per_task["unlearning"].score.value == 0.5
    assert head.wrs.value == 0.375 and head.rs0.value == 1
    assert head.aurc_primary.value == 0.5 and head.baseline_gap.value == -0.125
    assert head.aurc["before_edit"] == head.aurc_primary and head.aurc["soft_suffix"] == head.aurc_baseline
    assert head.wrs.interval is not None
    assert head.wrs.interval.low < 0.375 < head.wrs.interval.high
    assert entry.verdict.status == "ranked" and entry.rank is not None and entry.flags == []


def test_controls_are_listed_and_what_everything_cost(made: SuiteBoard) -> None:
    entry = made.entries[0]
    assert {(one.name, one.recovered) for one in entry.controls} == {
        ("random-direction", 0),
        ("wrong-target", 0),
        ("zero", 0),
    }
    assert entry.cost.forwards == 2 * (9 * 32 * 5 * 2 + 2 * 32 * 2)
    assert entry.defense.record["ioi"] == {"n_latents": 20, "strength": 1.5}, "long lists become their length"


def test_a_control_is_classified_and_comes_last(made: SuiteBoard) -> None:
    assert [one.defense.name for one in made.entries] == ["clamp", "none"]
    assert made.entries[1].verdict.reasons == ["a control: classified, not attacked"]
    assert made.entries[1].per_task["ioi"].rs0.value == 0


def test_the_sanity_budget_is_no_ranked_budget(made: SuiteBoard) -> None:
    cells = [one for result in made.entries[0].per_task.values() for one in result.cells]
    assert SANITY not in {point.budget for one in cells for point in one.budgets}


def test_a_recovery_no_easier_than_the_wrong_target_counts_in_raw_only(tmp_path: Path) -> None:
    for name, steered, selective in (("as cheap", 0.05, 1), ("dearer", 0.1, 0.5), ("unknown", None, None)):
        reference = {} if steered is None else {t: {f"e{i:03d}": steered for i in range(32)} for t in SCORES}
        run = write_run(tmp_path / name, scored_cells(HALF), tasks=frozen("ioi", steered=reference))
        head = only(run).headline
        assert (head.wrs.value, head.wrs_selective.value) == (0.5, selective)


def test_a_wrong_target_that_failed_late_or_never_changes_no_area(tmp_path: Path) -> None:
    """It was stored as selective = recovered and stayed so: an area of .552 for .570, in silence."""
    tasks = frozen("ioi", steered={t: {f"e{i:03d}": 0.05 for i in range(8)} for t in SCORES})
    cells = scored_cells(HALF)
    broken = table([failed(f"e{i:03d}", eps, cluster_id=f"c{i:03d}", **WRONG) for i in range(32) for eps in BUDGETS])
    failing = [replace(one, rows=broken) if one.plan.goal == "wrong" else one for one in cells]
    without = [one for one in cells if one.plan.goal != "wrong"]
    runs = {"whole": cells, "failing": failing, "without": without}
    made = [only(write_run(tmp_path / name, some, tasks=tasks)) for name, some in runs.items()]
    assert [one.per_task["ioi"].score_selective for one in made] == [made[0].per_task["ioi"].score_selective] * 3
    assert [one.headline.wrs for one in made] == [made[0].headline.wrs] * 3
    assert (made[0].headline.wrs_selective.value, made[0].headline.wrs.value) == (0.75, 0.5)


def test_doing_nothing_scores_zero_and_ranks_last(tmp_path: Path) -> None:
    cells = [*default_cells(HALF, HALF), *default_cells(HALF, HALF, defense="none", suppressed=False)]
    entries = board(write_run(tmp_path / "run", cells)).entries
    assert [one.defense.name for one in entries] == ["clamp", "none"]
    nothing = entries[1]
    assert nothing.headline.wrs.value == 0 and nothing.headline.rs0.value == 0
    assert nothing.rank is not None and nothing.rank.rank == 2 and nothing.headline.eps50.value is None


def test_a_missing_task_leaves_no_headline_but_its_own_numbers(tmp_path: Path) -> None:
    entry = only(write_run(tmp_path / "run", SCORED, suite=suite(["ioi", "unlearning"])))
    assert entry.headline.wrs.value is None and entry.per_task["ioi"].score.value == 0.5
    assert entry.headline.aurc["before_edit"].value is None


def test_an_attack_that_does_not_apply_is_no_failed_attack(tmp_path: Path) -> None:
    """Otherwise a defense without protected features would look safe from constrained recovery."""
    why = "the defense protects no features"
    idle = cell(rows([NEVER] * 32, status="not_run", error=why, constraint="encoder"))
    entry = only(write_run(tmp_path / "run", [*SCORED, idle]))
    found = next(one for one in entry.per_task["ioi"].cells if one.skipped)
    assert found.skipped == why and found.budgets == [] and entry.per_task["ioi"].score.value == 0.5
    alone = [one for one in SCORED if one.plan.threat_model != "before_edit" or not one.plan.attacks]
    lonely = only(write_run(tmp_path / "alone", [*alone, idle]))
    assert "before_edit" not in lonely.per_task["ioi"].curves


def test_entries_that_cannot_be_told_apart_share_a_rank(tmp_path: Path) -> None:
    nearly, worse = [0.01] * 17 + [NEVER] * 15, [0.01] * 31 + [NEVER]
    names = {"a": HALF, "b": HALF, "c": nearly, "d": worse}
    cells = [one for name, first in names.items() for one in default_cells(first, first, defense=name)]
    ranks = {one.defense.name: one.rank for one in board(write_run(tmp_path / "run", cells), resamples=300).entries}
    assert {name: rank.rank for name, rank in ranks.items() if rank} == {"a": 1, "b": 1, "c": 1, "d": 4}
    assert ranks["d"] is not None and (ranks["d"].low, ranks["d"].high) == (4, 4)
    assert ranks["c"] is not None and ranks["c"].low <= 1 and ranks["c"].high == 3


def test_repeats_of_a_defense_are_a_worst_case_and_no_lottery(tmp_path: Path) -> None:
    unlucky = write_run(tmp_path / "one", default_cells(QUARTER, QUARTER), run_id="one")
    lucky = write_run(tmp_path / "two", default_cells(HALF, HALF), run_id="two")
    entries = [one for one in board(unlucky, lucky).entries if one.defense.name == "clamp"]
    status = {one.provenance.run_id: one.verdict for one in entries}
    assert status["one"].status == "ranked"
    assert status["two"].reasons == ["another run of the same defense on the same model scored lower"]


def test_numbers_do_not_depend_on_the_company(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", SCORED)
    both = write_run(tmp_path / "two", scored_cells(HALF, defense="other"))
    together = next(entry for entry in board(one, both).entries if entry.defense.name == "clamp")
    assert only(one).model_copy(update={"rank": together.rank}) == together


def test_runs_of_different_suites_are_refused(tmp_path: Path) -> None:
    bare = [control(rows([NEVER] * 4, (0.0,), attack="zero", defense="none"))]
    one = write_run(tmp_path / "one", bare)
    two = write_run(tmp_path / "two", bare, suite=suite([], version="2", hash="other"))
    with pytest.raises(UsageError, match=r"embedded 1 \(0123456789ab\), embedded 2 \(other\)"):
        board(one, two)
    with pytest.raises(UsageError, match="at least one run"):
        suite_board([])


def test_a_written_board_reads_back_equal_and_leaves_no_draft(made: SuiteBoard, tmp_path: Path) -> None:
    target, whole = tmp_path / "out" / "leaderboard.json", leaderboard([made])
    write(whole, target)
    write(whole, target)
    assert Leaderboard.model_validate_json(target.read_bytes()) == whole
    assert [one.name for one in target.parent.iterdir()] == ["leaderboard.json"]


def test_nan_is_refused_and_the_old_file_stays(made: SuiteBoard, tmp_path: Path) -> None:
    target = tmp_path / "leaderboard.json"
    write(leaderboard([made]), target)
    old = target.read_bytes()
    provenance = made.entries[0].provenance.model_copy(update={"limit": float("nan")})
    broken = made.model_copy(update={"entries": [made.entries[0].model_copy(update={"provenance": provenance})]})
    with pytest.raises(ValueError, match="(?i)nan|finite"):
        write(leaderboard([broken]), target)
    assert target.read_bytes() == old
