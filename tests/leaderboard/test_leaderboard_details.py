"""What stands beside the score: detection, attribution, labels, degenerate outputs, smallest perturbations, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from row_factory import BUDGETS, NEVER, cell, default_cells, examples, rows, write_run

from benchmark.schema import table
from leaderboard.aggregate import leaderboard, read_run
from leaderboard.attribution import attribution
from leaderboard.cell_statistics import cell_statistics, first_success
from leaderboard.outcomes import outcomes
from leaderboard.resampling import Resampler, Resamples
from leaderboard.schema import Cell, TaskResult

FIRST = [0.05] * 8 + [0.2] * 8 + [NEVER] * 16


def resamples(made: pa.Table) -> Resamples:
    return Resampler(resamples=200).of("ioi", outcomes(made).clusters)


def statistics(made: pa.Table) -> Cell:
    return cell_statistics(cell(made), resamples(made))


def changed(first: list[float], change: dict[str, dict[str, Any]], **common: Any) -> pa.Table:
    """Rows of which those of the named examples are changed."""
    return table([one | change.get(str(one["example_id"]), {}) for one in examples(first, **common)])


def result(directory: Path, fits: dict[str, object] | None = None, **common: Any) -> TaskResult:
    run = write_run(directory, default_cells(FIRST, FIRST, **common), fits=fits)
    return leaderboard([read_run(run)], resamples=100).entries[0].per_task["ioi"]


def test_detection_is_counted_among_the_recovered_at_each_budget() -> None:
    caught = {f"e{index:03d}": {"detected": True} for index in range(6)}
    points = statistics(changed(FIRST, caught, detected=False)).budgets
    assert [point.recovered for point in points] == [8, 8, 16, 16]
    assert [point.undetected for point in points] == [2, 2, 10, 10]
    assert [point.detected_share.value for point in points] == [0.75, 0.75, 0.375, 0.375]
    assert [point.undetected_share.value for point in points] == [2 / 32, 2 / 32, 10 / 32, 10 / 32]
    assert points[0].detected_share.interval is not None


def test_without_a_monitor_nothing_is_said_about_detection(tmp_path: Path) -> None:
    points = statistics(rows(FIRST)).budgets
    assert all(point.undetected is None and point.detected_share.value is None for point in points)
    assert result(tmp_path / "run").detection is None


def test_one_recovery_that_escapes_is_an_escape() -> None:
    both = pa.concat_tables([rows(FIRST, detected=True), rows(FIRST, detected=False, seed=1)])
    assert statistics(both).budgets[-1].undetected == 16
    assert statistics(rows(FIRST, detected=True)).budgets[-1].undetected == 0


def test_detection_of_a_task_is_over_what_enters_the_score(tmp_path: Path) -> None:
    found = result(tmp_path / "run", {"monitor_false_positives": 0.02}, detected=True).detection
    assert found is not None
    assert (found.recovered, found.detected_share.value, found.undetected_share.value) == (16, 1, 0)
    assert found.false_positives == 0.02


def test_degenerate_outputs_are_neither_held_nor_recovered(tmp_path: Path) -> None:
    broken = {f"e{index:03d}": {"outcome": "degenerate"} for index in range(20, 28)}
    found = statistics(changed(FIRST, broken))
    assert [point.degenerate for point in found.budgets] == [8] * 4
    assert found.budgets[-1].degenerate_share.value == 8 / 32
    assert found.outcomes.model_dump() == {"never_suppressed": 0, "held": 8, "recovered": 16, "degenerate": 8}
    assert [point.degenerate for point in statistics(rows(FIRST)).budgets] == [0] * 4


def test_an_example_that_another_seed_recovers_is_not_degenerate() -> None:
    both = pa.concat_tables([rows([0.05] * 4), rows([NEVER] * 4, seed=1, outcome="degenerate")])
    assert [point.degenerate for point in statistics(both).budgets] == [0] * 4


def test_labels_are_counted_over_the_attacked_rows(tmp_path: Path) -> None:
    said = {"e000": {"label_attacked": "degenerate"}, "e001": {"label_attacked": "off_target"}}
    found = statistics(changed(FIRST, said, label_attacked="refusal"))
    budgets = len(BUDGETS)
    assert found.labels == {"degenerate": budgets, "off_target": budgets, "refusal": 30 * budgets}
    assert statistics(rows(FIRST, status="not_run", label_attacked="refusal")).labels == {}
    assert result(tmp_path / "run", label_defended="refusal").labels_defended == {"refusal": 32}


def test_the_smallest_perturbation_stands_beside_that_of_the_first_success() -> None:
    found = first_success(rows(FIRST, first_success_eps=0.04, min_eps=0.01))
    assert (found.min_eps, found.delta_eps) == (0.01, 0.04)
    assert first_success(rows(FIRST, first_success_eps=0.04)).min_eps is None
    older = rows(FIRST, first_success_eps=0.04).drop_columns(["min_eps"])
    assert first_success(older).min_eps is None


ATTRIBUTED: dict[str, Any] = {
    "attr_clamped_share": 0.1,
    "attr_other_share": 0.9,
    "attr_residual_share": 0.5,
    "attr_clamped_recovered": False,
    "attr_other_recovered": True,
    "attr_clamped_equal_recovered": True,
    "attr_random_recovered": 0.25,
    "attr_cos_clamped_other": -0.3,
}


def test_attribution_says_what_each_part_recovers_alone() -> None:
    made = changed(FIRST, {"e000": {"attr_clamped_recovered": True, "attr_clamped_share": 0.7}}, **ATTRIBUTED)
    found = attribution(made, resamples(made))
    assert found is not None and (found.n, found.clusters) == (16, 16)
    clamped, other, residual = (found.parts[name] for name in ("clamped", "other", "residual"))
    assert (clamped.share, clamped.recovered.value, clamped.equal_recovered.value) == (0.1, 1 / 16, 1)
    assert clamped.recovered.interval is not None and clamped.recovered.interval.method == "wilson"
    assert other.recovered.value == 1 and residual.share == 0.5
    assert residual.recovered.value is None, "where a part is zero there is nothing to replay"
    assert found.random_recovered.value == 0.25
    assert found.cosines["clamped_other"] == pytest.approx(-0.3) and found.cosines["other_residual"] is None


def test_without_the_pass_there_is_no_attribution_and_old_files_have_no_columns() -> None:
    made = rows(FIRST)
    assert attribution(made, resamples(made)) is None
    older = made.drop_columns([name for name in made.column_names if name.startswith("attr_")])
    assert attribution(older, resamples(made)) is None


def test_shares_of_clusters_are_not_shares_of_rows() -> None:
    made = rows(FIRST, cluster=lambda index: index // 4, **ATTRIBUTED)
    found = attribution(made, resamples(made))
    assert found is not None and found.clusters == 4
    interval = found.parts["other"].recovered.interval
    assert interval is not None and interval.method == "wilson-on-clusters"


def test_figures_of_the_task_reach_the_file(tmp_path: Path) -> None:
    figures = {"tpp_score": 0.3, "accuracy_drop": {"nurse": 0.5}}
    assert result(tmp_path / "run", {"task_figures": figures}).figures == figures
    assert result(tmp_path / "none").figures == {}
