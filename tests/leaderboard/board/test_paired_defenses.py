"""Differences between defenses: paired over clusters, by primary threat model, corrected over tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leaderboard.board.schema import Comparison
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.intervals import holm
from tests.leaderboard.row_factory import NEVER, THREATS, board, cell, control, frozen, rows, write_run

TASKS = ("ioi", "unlearning")
WORSE = [0.01] * 24 + [NEVER] * 8
BETTER = [0.01] * 8 + [NEVER] * 24


def attacked(tasks: tuple[str, ...] = TASKS, **first: list[float]) -> list[MeasuredCell]:
    """Defenses by name, attacked under before_edit alone."""
    return [cell(rows(one, task=task, defense=name)) for task in tasks for name, one in first.items()]


def found(folder: Path, cells: list[MeasuredCell], **changes: Any) -> list[Comparison]:
    return board(write_run(folder / "run", cells, **changes), resamples=400).comparisons


def test_the_better_defense_is_told_from_the_worse_on_every_task(tmp_path: Path) -> None:
    got = found(tmp_path, attacked(bad=WORSE, a_good_one=BETTER))
    assert [(one.task, one.first, one.second) for one in got] == [(task, "a_good_one", "bad") for task in TASKS]
    for one in got:
        assert one.threat_model == "before_edit" and one.aurc.value == pytest.approx(0.5)
        assert one.aurc.interval is not None and one.aurc.interval.low > 0 and one.p < 0.05


def test_a_defense_is_not_told_from_its_equal(tmp_path: Path) -> None:
    for one in found(tmp_path, attacked(a=WORSE, b=WORSE)):
        assert one.aurc.value == 0 and one.p == 1
        assert one.aurc.interval is not None and one.aurc.interval.low < 0


MODEL = {"id": "organism", "revision": None, "weights_sha": "another"}


@pytest.mark.parametrize(
    "other", [{}, {"protocol": "paper"}, {"dtype": "bfloat16"}, {"examples": "other"}, {"model": MODEL}]
)
def test_runs_are_compared_only_where_they_measured_alike(other: dict[str, Any], tmp_path: Path) -> None:
    def run(name: str, budgets: list[float], **changes: Any) -> Path:
        tasks = frozen("ioi", examples_hash=changes.pop("examples", "abc"))
        cells = attacked(("ioi",), **{name: budgets})
        return write_run(tmp_path / name, cells, **changes, tasks=tasks, run_id=name)

    got = board(run("good", BETTER), run("bad", WORSE, **other)).comparisons
    assert [(one.task, one.first) for one in got] == ([] if other else [("ioi", "bad")])


def test_p_is_corrected_over_the_tasks_of_a_pair(tmp_path: Path) -> None:
    alone = found(tmp_path / "one", attacked(("ioi",), good=BETTER, bad=WORSE))[0]
    both = found(tmp_path / "two", attacked(good=BETTER, bad=WORSE))
    assert both[0].p == pytest.approx(holm([alone.p] * 2)[0]) and both[0].p > alone.p


def test_every_primary_threat_model_is_compared_and_no_other(tmp_path: Path) -> None:
    way: dict[str, Any] = {"threat_model": "soft_suffix"}
    cells = attacked(("ioi",), good=BETTER, bad=WORSE)
    cells += [cell(rows(one, defense=name, **way)) for name, one in (("good", BETTER), ("bad", WORSE))]
    assert [one.threat_model for one in found(tmp_path / "one", cells)] == ["before_edit"]
    threats = THREATS | {"soft_suffix": THREATS["soft_suffix"] | {"role": "primary"}}
    got = found(tmp_path / "two", cells, threats=threats)
    assert [one.threat_model for one in got] == ["before_edit", "soft_suffix"]


def test_what_was_not_attacked_is_not_compared(tmp_path: Path) -> None:
    bare = control(rows([NEVER] * 32, budgets=(0.0,), attack="zero", defense="none"))
    assert found(tmp_path, [*attacked(("ioi",), bad=WORSE), bare]) == []
