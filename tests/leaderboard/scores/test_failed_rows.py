"""A row whose attack raised is not recovered, and its example stays in every denominator."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from leaderboard.board.schema import Entry
from leaderboard.figures.lines import points
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.outcomes import outcomes
from leaderboard.scores.parts import attribution
from leaderboard.scores.resampling import Resampler
from tests.leaderboard.row_factory import (
    BUDGETS,
    NEVER,
    cell,
    default_cells,
    examples,
    failed,
    only,
    rows,
    table,
    write_run,
)

BACK, FAILED = 10, 30


def some_failed() -> MeasuredCell:
    """Of 40 suppressed examples ten come back at the smallest budget, and the attack raised on all others."""
    made = [one for one in examples([0.05] * BACK) if not one["sanity"]]
    made += [failed(f"f{index:03d}", eps) for index in range(FAILED) for eps in BUDGETS]
    return cell(table(made), sanity_budgets=[])


def entry(directory: Path, attack: MeasuredCell) -> Entry:
    others = [one for one in default_cells([0.05] * BACK, [NEVER] * BACK) if one.plan.key != attack.plan.key]
    return only(write_run(directory, [attack, *others]))


def test_failed_rows_are_in_the_denominator_of_the_file(tmp_path: Path) -> None:
    result = entry(tmp_path / "run", some_failed()).per_task["ioi"]
    found = next(one for one in result.cells if one.key == some_failed().plan.key)
    assert (found.eligible, found.suppressed, found.failed_rows) == (40, 40, FAILED * len(BUDGETS))
    assert [(point.recovered, point.recovered_share.value) for point in found.budgets] == [(10, 0.25)] * 4
    classes = found.outcomes
    assert (classes.recovered, classes.failed, classes.held) == (10, 30, 0)
    curve = result.curves["before_edit"].raw
    assert [one.value for one in curve.rs] == [0.75] * 4 and curve.conditional_recovery.value == 0.25


def test_the_figure_counts_as_the_file_does() -> None:
    assert [(point.budget, point.share) for point in points([some_failed()], Resampler())] == [
        (eps, 0.25) for eps in BUDGETS
    ]
    kept = [one for one in some_failed().rows.to_pylist() if one["status"] == "ok"]
    flattered = [point.share for point in points([cell(table(kept))], Resampler())]
    assert flattered == [1.0] * 4, "what one gets by leaving them out"


def test_an_attack_that_fails_everywhere_has_recovered_nothing_and_bars_the_ranking(tmp_path: Path) -> None:
    nothing = cell(table([failed(f"e{index:03d}", eps) for index in range(BACK) for eps in BUDGETS]))
    made = entry(tmp_path / "run", nothing)
    assert made.per_task["ioi"].curves["before_edit"].raw.aurc.value == 1
    assert any("failed-rows (lower-bound-only)" in reason for reason in made.verdict.reasons)
    assert [point.share for point in points([nothing], Resampler())] == [0.0] * 4


def test_a_failed_row_is_no_recovery_whatever_its_columns_say() -> None:
    odd = rows([0.05] * 4, status="error", attr_clamped_share=0.5, attr_random_recovered=0.1)
    assert not outcomes(odd).recovered.any() and outcomes(odd).suppressed.all()
    assert attribution(odd, Resampler(resamples=10).of("ioi", outcomes(odd).clusters)) is None


def test_another_seed_that_worked_speaks_for_the_example() -> None:
    both = pa.concat_tables(
        [table([failed(f"e{index:03d}", eps) for index in range(4) for eps in BUDGETS]), rows([0.05] * 4, seed=1)]
    )
    assert outcomes(both).recovered_shares().tolist() == [1.0] * 4
