"""Everything that a score rests on has run: the suite's attacks, each attack's controls, the undefended model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from leaderboard.doubt.coverage import coverage_reasons
from leaderboard.rows.plan import PlannedCell
from leaderboard.rows.run import MeasuredCell, read_run
from tests.leaderboard.row_factory import (
    ATTACKS,
    HALF,
    NEVER,
    beside,
    cell,
    control,
    default_cells,
    rows,
    suite,
    write_run,
)

DEFAULT = default_cells(HALF, HALF)


def reasons(tmp_path: Path, cells: Sequence[MeasuredCell], **changes: Any) -> list[str]:
    return list(coverage_reasons(read_run(write_run(tmp_path / "run", cells, **changes)), "clamp"))


def test_the_default_plan_is_complete(tmp_path: Path) -> None:
    assert reasons(tmp_path, DEFAULT) == []


def test_an_attack_of_the_suite_that_was_left_out_is_named(tmp_path: Path) -> None:
    """The curve of before_edit is there all the same: another attack has written one."""
    listed = [*ATTACKS, {"attack": "stronger", "threat_model": "before_edit", "constraint": "none"}]
    found = reasons(tmp_path, DEFAULT, suite=suite(["ioi"], attacks=listed))
    assert found == ["attack stronger (before_edit/none) of the suite was not run on ioi"]


def test_an_attack_that_does_not_apply_to_the_defense_has_run(tmp_path: Path) -> None:
    way: dict[str, Any] = {"threat_model": "before_edit", "constraint": "jacobian"}
    idle = rows([NEVER] * 32, status="not_run", error="no features", **way)
    listed = [*ATTACKS, {"attack": "recovery", **way}]
    cells = [
        *DEFAULT,
        cell(idle, controls=beside(**way)),
        control(rows([NEVER] * 32, attack="random-direction", **way)),
    ]
    assert reasons(tmp_path, cells, suite=suite(["ioi"], attacks=listed)) == []


def test_a_run_that_does_not_say_what_its_suite_has_is_not_complete(tmp_path: Path) -> None:
    found = reasons(tmp_path, DEFAULT, suite=suite(["ioi"], attacks=None))
    assert found == ["the run does not say which attacks its suite has"]


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        (
            lambda one: one.goal == "wrong" and one.threat_model == "soft_suffix",
            "control wrong-target was not run beside the attacks on ioi (soft_suffix)",
        ),
        (
            lambda one: one.attack == "random-direction" and one.constraint == "encoder",
            "control random-direction was not run beside the attacks on ioi (after_edit/encoder)",
        ),
        (
            lambda one: one.attack == "zero" and one.threat_model == "before_edit",
            "control zero was not run beside the attacks on ioi (before_edit)",
        ),
    ],
)
def test_a_control_that_did_not_run_is_named(
    tmp_path: Path, left_out: Callable[[PlannedCell], bool], reason: str
) -> None:
    assert reasons(tmp_path, [one for one in DEFAULT if not left_out(one.plan)]) == [reason]


def test_what_stands_beside_an_attack_is_what_the_attack_asks_for(tmp_path: Path) -> None:
    """Whatever its name; one of another task or of another constraint does not stand beside it."""
    asked = {"attack": "dice", "threat_model": "before_edit", "constraint": "none", "goal": "behavior"}
    mine = cell(rows(HALF), controls=[asked])
    others = [one for one in DEFAULT if one.plan.key != mine.plan.key]
    missing = ["control dice was not run beside the attacks on ioi (before_edit)"]
    away = control(rows([NEVER] * 32, attack="dice", task="unlearning"))
    bound = control(rows([NEVER] * 32, attack="dice", constraint="encoder"))
    elsewhere = reasons(tmp_path / "elsewhere", [mine, *others, away, bound], suite=suite(["ioi"], attacks=[]))
    assert elsewhere == missing
    assert reasons(tmp_path / "there", [mine, *others, control(rows([NEVER] * 32, attack="dice"))]) == []


def test_the_undefended_model_has_to_run_and_to_show_the_behavior(tmp_path: Path) -> None:
    missing = ["control defense none was not run on ioi"]
    assert reasons(tmp_path / "without", DEFAULT, control=False) == missing
    forgetful = control(rows([NEVER] * 32, (0.0,), attack="zero", defense="none"))
    assert reasons(tmp_path / "forgetful", [*DEFAULT, forgetful]) == [
        "control defense none suppresses examples of ioi: the base model does not repeat itself"
    ]


def test_which_defense_is_undefended_is_what_the_suite_says(tmp_path: Path) -> None:
    bare = control(rows([NEVER] * 32, (0.0,), attack="zero", defense="bare", suppressed=False))
    cells = [*DEFAULT, bare]
    assert reasons(tmp_path / "named", cells, control=False, suite=suite(["ioi"], undefended="bare")) == []
    unnamed = reasons(tmp_path / "unnamed", cells, control=False, suite=suite(["ioi"], undefended=None))
    assert unnamed == ["the suite names no undefended control"]
