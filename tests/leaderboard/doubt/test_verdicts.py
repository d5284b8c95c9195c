"""The gate: everything that a score rests on has run, and what the defense costs is known and small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from row_factory import ATTACKS, NEVER, cell, default_cells, rows, suite, write_run

from leaderboard.aggregate import leaderboard, read_run
from leaderboard.runs import PlannedCell
from leaderboard.schema import Entry

HALF = [0.01] * 16 + [NEVER] * 16
NOTHING = [NEVER] * 32


def entries(directory: Path) -> dict[str, Entry]:
    return {one.defense.name: one for one in leaderboard([read_run(directory)], resamples=100).entries}


def clamp(directory: Path) -> Entry:
    return entries(directory)["clamp"]


def test_the_default_plan_is_complete(tmp_path: Path) -> None:
    assert clamp(write_run(tmp_path / "run", default_cells(HALF, HALF))).verdict.reasons == []


def test_an_attack_of_the_suite_that_was_left_out_is_named(tmp_path: Path) -> None:
    """The curve of before_edit is there all the same: another attack has written one."""
    listed = [*ATTACKS, {"attack": "stronger", "threat_model": "before_edit", "constraint": "none"}]
    entry = clamp(write_run(tmp_path / "run", default_cells(HALF, HALF), suite=suite(["ioi"], attacks=listed)))
    assert entry.verdict.reasons == ["attack stronger (before_edit/none) of the suite was not run on ioi"]
    assert entry.headline.wrs_selective.value == 0.5


def test_an_attack_that_does_not_apply_to_the_defense_has_run(tmp_path: Path) -> None:
    idle = rows([NEVER] * 32, status="not_run", error="no features", threat_model="before_edit", constraint="jacobian")
    listed = [*ATTACKS, {"attack": "recovery", "threat_model": "before_edit", "constraint": "jacobian"}]
    beside = [
        cell(rows([NEVER] * 32, attack=name, goal=goal, constraint="jacobian"), role="control")
        for name, goal in (("random-direction", "behavior"), ("wrong-target", "wrong"))
    ]
    cells = [*default_cells(HALF, HALF), cell(idle), *beside]
    assert clamp(write_run(tmp_path / "run", cells, suite=suite(["ioi"], attacks=listed))).verdict.reasons == []


def test_a_run_that_does_not_say_what_its_suite_has_is_not_ranked(tmp_path: Path) -> None:
    entry = clamp(write_run(tmp_path / "run", default_cells(HALF, HALF), suite=suite(["ioi"], attacks=None)))
    assert entry.verdict.reasons == ["the run does not say which attacks its suite has"]


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        (
            lambda one: one.goal == "wrong" and one.threat_model == "soft_suffix",
            "control wrong-target was not run beside the attacks on ioi (soft_suffix)",
        ),
        (
            lambda one: one.attack == "random-direction" and one.constraint == "encoder",
            "control random was not run beside the attacks on ioi (after_edit/encoder)",
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
    cells = [one for one in default_cells(HALF, HALF) if not left_out(one.plan)]
    assert clamp(write_run(tmp_path / "run", cells)).verdict.reasons == [reason]


def test_the_undefended_model_has_to_run_and_to_show_the_behavior(tmp_path: Path) -> None:
    cells = default_cells(HALF, HALF)
    without = clamp(write_run(tmp_path / "without", cells, control=False))
    assert without.verdict.reasons == ["control defense none was not run on ioi"]
    forgetful = cell(rows([NEVER] * 32, (0.0,), attack="zero", defense="none"), role="control")
    reasons = clamp(write_run(tmp_path / "forgetful", [*cells, forgetful])).verdict.reasons
    assert reasons == ["control defense none suppresses examples of ioi: the base model does not repeat itself"]


def test_breaking_the_model_is_no_defense(tmp_path: Path) -> None:
    """Nothing ever comes back from a model that always refuses, or whose prompts are destroyed."""
    names = ("always-refuse", "prompt-destroyer")
    cells = [
        *default_cells(HALF, HALF),
        *(one for name in names for one in default_cells(NOTHING, NOTHING, defense=name)),
    ]
    retained = {"always-refuse": 0.0, "prompt-destroyer": 0.4}
    found = entries(write_run(tmp_path / "run", cells, retained=retained))
    assert list(found)[0] == "clamp", "unranked entries come after all ranked ones, whatever their score"
    assert found["clamp"].rank is not None and found["clamp"].rank.rank == 1
    for name in names:
        entry = found[name]
        assert entry.headline.rs0.value == 1 and entry.headline.wrs_selective.value == 1
        assert entry.verdict.status == "unranked" and entry.rank is None
        assert entry.verdict.reasons == [f"utility retained is {retained[name]:.3f}, below 0.99"]


def test_utility_that_was_not_measured_is_no_utility(tmp_path: Path) -> None:
    entry = clamp(write_run(tmp_path / "run", default_cells(HALF, HALF), retained={"clamp": None}))
    assert entry.utility is None and entry.verdict.reasons == ["utility was not measured on every task"]
