"""What is said about a cell beside its curve: detection, labels, degenerate outputs, what the first success took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from leaderboard.scores.cells import CellScores, cell_scores
from leaderboard.scores.first_success import first_success
from leaderboard.scores.resampling import Resampler
from leaderboard.scores.tasks import task_clusters
from tests.leaderboard.row_factory import (
    BUDGETS,
    NEVER,
    against,
    cell,
    control,
    default_cells,
    examples,
    only,
    rows,
    table,
    write_run,
)

FIRST = [0.05] * 8 + [0.2] * 8 + [NEVER] * 16


def statistics(made: pa.Table) -> CellScores:
    one = cell(made)
    return cell_scores(one, Resampler(resamples=100).of("ioi", task_clusters([one])))


def changed(first: list[float], change: dict[str, dict[str, Any]], **common: Any) -> pa.Table:
    """Rows of which those of the named examples are changed."""
    return table([one | change.get(str(one["example_id"]), {}) for one in examples(first, **common)])


def test_statistics_of_a_cell() -> None:
    facts: dict[str, Any] = {"first_success_eps": 0.03, "first_success_drift": 1.0, "reactivated_fraction": 0.1}
    found = statistics(against(rows([0.01] * 16 + [NEVER] * 16, **facts), [0.05] * 4))
    assert (found.eligible, found.suppressed, found.clusters, found.failed_rows) == (32, 32, 32, 0)
    assert [(point.budget, point.recovered) for point in found.budgets] == [(budget, 16) for budget in BUDGETS]
    assert found.budgets[0].recovered_share.value == 0.5 and found.budgets[0].selective == 12
    assert statistics(rows([0.01] * 4)).budgets[0].selective is None, "nothing to compare with"
    first = found.first_success
    assert (first.n, first.delta_eps, first.drift_abs) == (16, 0.03, 1)
    assert first.delta_norm == pytest.approx(0.3) and first.reactivated_fraction == pytest.approx(0.1)
    assert found.outcomes.model_dump() == {
        "never_suppressed": 0,
        "held": 16,
        "recovered": 16,
        "degenerate": 0,
        "failed": 0,
    }
    assert found.cost.forwards == 32 * 5 * 2


def test_cost_is_seconds_times_threads_on_processors_and_seconds_on_an_accelerator() -> None:
    cases: list[dict[str, Any]] = [{}, {"threads": 2}, {"peak_memory_mb": 9.0}]
    none, two, gpu = (statistics(rows([0.01] * 4, **facts)).cost for facts in cases)
    assert none.seconds == two.seconds == 4 * 5 * 0.5
    assert (none.core_seconds, none.gpu_seconds) == (None, None), "rows of before that column do not say"
    assert (two.core_seconds, two.gpu_seconds) == (2 * two.seconds, None)
    assert (gpu.core_seconds, gpu.gpu_seconds) == (None, gpu.seconds)


def test_a_control_has_no_selective_share() -> None:
    one = control(against(rows(FIRST, attack="random-direction"), []))
    found = cell_scores(one, Resampler(resamples=10).of("ioi", task_clusters([one])))
    assert all(point.selective is None and point.selective_share.value is None for point in found.budgets)


def test_detection_is_counted_among_the_recovered_at_each_budget() -> None:
    caught = {f"e{index:03d}": {"detected": True} for index in range(6)}
    points = statistics(changed(FIRST, caught, detected=False)).budgets
    assert [point.recovered for point in points] == [8, 8, 16, 16]
    assert [point.undetected for point in points] == [2, 2, 10, 10]
    assert [point.detected_share.value for point in points] == [0.75, 0.75, 0.375, 0.375]
    assert [point.undetected_share.value for point in points] == [2 / 32, 2 / 32, 10 / 32, 10 / 32]
    assert points[0].detected_share.interval is not None


def test_without_a_monitor_nothing_is_said_about_detection() -> None:
    points = statistics(rows(FIRST)).budgets
    assert all(point.undetected is None and point.detected_share.value is None for point in points)


def test_one_recovery_that_escapes_is_an_escape() -> None:
    both = pa.concat_tables([rows(FIRST, detected=True), rows(FIRST, detected=False, seed=1)])
    assert statistics(both).budgets[-1].undetected == 16
    assert statistics(rows(FIRST, detected=True)).budgets[-1].undetected == 0


def test_detection_of_a_task_is_over_what_enters_the_score(tmp_path: Path) -> None:
    """Not over after_edit, which all of them escape here."""
    cells = default_cells(FIRST, FIRST, detected=True)
    unseen = [
        cell(rows([0.01] * 32, threat_model="after_edit", detected=False)) if one.plan.role == "attack" else one
        for one in cells
        if one.plan.threat_model == "after_edit" and one.plan.constraint == "none"
    ]
    kept = [one for one in cells if one.plan.threat_model != "after_edit"]
    entry = only(write_run(tmp_path / "run", [*kept, *unseen], fits={"monitor_false_positives": 0.02}))
    found = entry.per_task["ioi"].detection
    assert found is not None and found.false_positives == 0.02
    assert (found.recovered, found.detected_share.value, found.undetected_share.value) == (16, 1, 0)


def test_degenerate_outputs_are_neither_held_nor_recovered() -> None:
    broken = {f"e{index:03d}": {"outcome": "degenerate"} for index in range(20, 28)}
    found = statistics(changed(FIRST, broken))
    assert [point.degenerate for point in found.budgets] == [8] * 4
    assert found.budgets[-1].degenerate_share.value == 8 / 32
    classes = found.outcomes
    assert (classes.held, classes.recovered, classes.degenerate) == (8, 16, 8)
    assert [point.degenerate for point in statistics(rows(FIRST)).budgets] == [0] * 4


def test_an_example_that_another_seed_recovers_is_not_degenerate() -> None:
    both = pa.concat_tables([rows([0.05] * 4), rows([NEVER] * 4, seed=1, outcome="degenerate")])
    assert [point.degenerate for point in statistics(both).budgets] == [0] * 4


def test_labels_are_counted_over_the_attacked_rows() -> None:
    said = {"e000": {"label_attacked": "degenerate"}, "e001": {"label_attacked": "off_target"}}
    found = statistics(changed(FIRST, said, label_attacked="refusal"))
    budgets = len(BUDGETS)
    assert found.labels == {"degenerate": budgets, "off_target": budgets, "refusal": 30 * budgets}
    assert statistics(rows(FIRST, status="not_run", label_attacked="refusal")).labels == {}


def test_the_smallest_perturbation_stands_beside_that_of_the_first_success() -> None:
    found = first_success(rows(FIRST, first_success_eps=0.04, min_eps=0.01))
    assert (found.min_eps, found.delta_eps) == (0.01, 0.04)
    assert first_success(rows(FIRST, first_success_eps=0.04)).min_eps is None
    older = rows(FIRST, first_success_eps=0.04).drop_columns(["min_eps"])
    assert first_success(older).min_eps is None


def test_relative_drift_at_the_first_success_uses_the_rows_own_normaliser() -> None:
    made = rows([0.05] * 3, drift_abs=2.0, drift_rel=0.4, first_success_drift=1.0)
    assert first_success(made).drift_rel == pytest.approx(0.2)
    near_zero = first_success(rows([0.05] * 3, drift_abs=2.0, near_zero=True, first_success_drift=1.0))
    assert near_zero.drift_rel is None and near_zero.n_near_zero == 3
