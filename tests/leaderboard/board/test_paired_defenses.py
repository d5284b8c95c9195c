"""Differences between defenses: paired over clusters, corrected over tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from row_factory import NEVER, cell, default_cells, frozen, rows, write_run

from leaderboard.aggregate import leaderboard, read_run
from leaderboard.intervals import holm
from leaderboard.runs import Run
from leaderboard.schema import Comparison

TASKS = ("ioi", "unlearning")
WORSE = [0.01] * 24 + [NEVER] * 8
BETTER = [0.01] * 8 + [NEVER] * 24


def found(folder: Path, **first: list[float]) -> list[Comparison]:
    cells = [
        one
        for task in TASKS
        for defense, budgets in first.items()
        for one in default_cells(budgets, budgets, task=task, defense=defense)
    ]
    return leaderboard([read_run(write_run(folder / "run", cells))], resamples=400).comparisons


def test_the_better_defense_is_told_from_the_worse_on_every_task(tmp_path: Path) -> None:
    got = found(tmp_path, bad=WORSE, a_good_one=BETTER)
    assert [(one.task, one.first, one.second) for one in got] == [(task, "a_good_one", "bad") for task in TASKS]
    for one in got:
        assert one.aurc_before_edit.value == pytest.approx(0.5)
        assert one.aurc_before_edit.interval is not None and one.aurc_before_edit.interval.low > 0 and one.p < 0.05


def test_a_defense_is_not_told_from_its_equal(tmp_path: Path) -> None:
    for one in found(tmp_path, a=WORSE, b=WORSE):
        assert one.aurc_before_edit.value == 0 and one.p == 1
        assert one.aurc_before_edit.interval is not None and one.aurc_before_edit.interval.low < 0


MODEL = {"id": "organism", "revision": None, "weights_sha": "another"}


@pytest.mark.parametrize(
    "other", [{}, {"protocol": "paper"}, {"dtype": "bfloat16"}, {"examples": "other"}, {"model": MODEL}]
)
def test_runs_are_compared_only_where_they_measured_alike(other: dict[str, Any], tmp_path: Path) -> None:
    def run(name: str, budgets: list[float], **changes: Any) -> Run:
        examples = changes.pop("examples", "abc")
        cells = [one for task in TASKS for one in default_cells(budgets, budgets, task=task, defense=name)]
        return read_run(
            write_run(tmp_path / name, cells, **changes, tasks=frozen(*TASKS, examples_hash=examples), run_id=name)
        )

    got = leaderboard([run("good", BETTER), run("bad", WORSE, **other)], resamples=400).comparisons
    assert [(one.task, one.first) for one in got] == ([] if other else [(task, "bad") for task in TASKS])


def test_p_is_corrected_over_the_tasks_of_a_pair(tmp_path: Path) -> None:
    alone = leaderboard(
        [
            read_run(
                write_run(
                    tmp_path / "one",
                    default_cells(BETTER, BETTER, defense="good") + default_cells(WORSE, WORSE, defense="bad"),
                )
            )
        ],
        resamples=400,
    ).comparisons[0]
    both = found(tmp_path, good=BETTER, bad=WORSE)
    assert both[0].p == pytest.approx(holm([alone.p] * 2)[0])


def test_what_was_not_attacked_is_not_compared(tmp_path: Path) -> None:
    control = [cell(rows([NEVER] * 32, budgets=(0.0,), attack="zero", defense="none"), role="control")]
    cells = [*default_cells(WORSE, WORSE, defense="bad"), *control]
    assert leaderboard([read_run(write_run(tmp_path / "run", cells))], resamples=100).comparisons == []
