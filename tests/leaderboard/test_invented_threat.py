"""A threat model that no code has ever heard of: what ``run.json`` says of it is enough to score, rank and draw it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from leaderboard.board.schema import Entry
from leaderboard.commands import figures
from leaderboard.doubt.coverage import coverage_reasons
from leaderboard.figures.lines import lines
from leaderboard.figures.panels import on_drift
from leaderboard.rows.run import MeasuredCell, read_run
from leaderboard.scores.resampling import Resampler
from leaderboard.tables.board import render
from tests.leaderboard.row_factory import (
    ATTACKS,
    BUDGETS,
    HALF,
    NEVER,
    QUARTER,
    SANITY,
    THREATS,
    cell,
    control,
    default_cells,
    frozen,
    only,
    rows,
    suite,
    write_run,
    wrong,
)

NAME = "cosmic_rays"
RAYS: dict[str, Any] = {"unit": "residual", "role": "baseline", "reaches_less_than": None}
DICE = {"attack": "dice", "threat_model": NAME, "constraint": "none", "goal": "behavior"}


def rays(first: list[float], threat: dict[str, Any], **common: Any) -> list[MeasuredCell]:
    """An attack of the invented threat model, beside a wrong target and what it asks for itself."""
    way: dict[str, Any] = {"threat_model": NAME, "drift_pre_abs": 0.3} | common
    nothing = [NEVER] * len(first)
    return [
        cell(rows(first, attack="storm", **way), threat, controls=[DICE]),
        wrong(rows(nothing, attack="wrong-target", goal="wrong", **way), threat),
        control(rows(nothing, attack="dice", **way), threat),
    ]


def scored(directory: Path, first: list[float], **threat: Any) -> tuple[Path, Entry]:
    """A run of everything, the invented threat model included, and its entry."""
    invented = RAYS | threat
    run = write_run(
        directory,
        [*default_cells(HALF, HALF), *rays(first, invented)],
        threats=THREATS | {NAME: invented},
        tasks=frozen("ioi", threat_models=[*THREATS, NAME], budgets={NAME: [0.1, 0.4]}, ceilings={NAME: 0.4}),
        suite=suite(["ioi"], attacks=[*ATTACKS, {"attack": "storm", "threat_model": NAME, "constraint": "none"}]),
    )
    return run, only(run)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Entry]:
    return scored(tmp_path_factory.mktemp("rays") / "run", QUARTER)


def test_it_is_scored_and_ranked(finished: tuple[Path, Entry]) -> None:
    entry = finished[1]
    result = entry.per_task["ioi"]
    assert entry.verdict.reasons == [] and entry.rank is not None
    assert result.scored_threats == ["before_edit", "soft_suffix", NAME]
    assert result.curves[NAME].budgets == [0.1, 0.4] and result.curves[NAME].raw.aurc.value == 0.25
    assert entry.headline.wrs.value == entry.headline.aurc_baseline.value == 0.25
    assert (entry.headline.aurc[NAME].value, entry.headline.baseline_gap.value) == (0.25, -0.25)
    assert entry.threats[NAME].model_dump() == RAYS
    points = next(one for one in result.cells if one.attack == "storm").budgets
    assert SANITY not in [point.budget for point in points]


def test_it_is_shown_only_where_it_says_so(tmp_path: Path) -> None:
    """The negative control: the very same rows of a diagnostic threat model do not touch the score."""
    entry = scored(tmp_path / "run", QUARTER, role="diagnostic")[1]
    assert entry.headline.wrs.value == 0.5 and NAME not in entry.per_task["ioi"].scored_threats
    assert {f"{NAME}_within_tau", f"{NAME}_within_study_limit"} <= set(entry.headline.aurc)


def test_what_it_says_that_it_reaches_is_held_against_it(finished: tuple[Path, Entry], tmp_path: Path) -> None:
    weaker = scored(tmp_path / "weaker", QUARTER, reaches_less_than="before_edit")[1]
    assert [(one.code, one.where) for one in weaker.flags] == [
        ("weaker-beats-stronger", "ioi: recovery (before_edit/none)")
    ]
    assert finished[1].flags == []


def test_its_own_controls_are_demanded(tmp_path: Path) -> None:
    cells = [one for one in rays(QUARTER, RAYS) if one.plan.attack != "dice"]
    run = read_run(write_run(tmp_path / "run", cells, threats=THREATS | {NAME: RAYS}))
    assert f"control dice was not run beside the attacks on ioi ({NAME})" in list(coverage_reasons(run, "clamp"))


def test_it_is_tabled_with_its_unit(finished: tuple[Path, Entry]) -> None:
    out = io.StringIO()
    render(finished[1], Console(file=out, width=140))
    printed = " ".join(out.getvalue().split())
    assert f"{NAME}: .25" in printed and f"before_edit, after_edit, {NAME}: norm of the perturbation" in printed
    lines = out.getvalue().splitlines()
    storm = next(place for place, line in enumerate(lines) if line.startswith("storm"))
    assert lines[storm + 1].startswith(NAME)
    assert [line for line in lines if line.startswith("threat model")][0].count("0.4") == 1, "one table a unit"


def test_it_is_drawn(finished: tuple[Path, Entry], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    figures([finished[0]], tmp_path)
    assert sorted(capsys.readouterr().out.split()) == sorted(map(str, tmp_path.iterdir()))
    assert "cosmic rays" in (tmp_path / "recovery__clamp.svg").read_text(encoding="utf-8")


def test_it_has_a_line_of_its_own_among_those_of_its_role(finished: tuple[Path, Entry]) -> None:
    found = read_run(finished[0]).cells
    labels = ["before edit", "after edit", "after edit, encoder null space", "cosmic rays", "soft suffix"]
    drawn = lines(found)
    assert [line.key.label for line in drawn] == [*labels, "wrong target", "random direction"]
    clamp = [one for one in found if one.plan.defense == "clamp"]
    points = next(points for line, points in on_drift(drawn, clamp, Resampler()) if line.key.label == "cosmic rays")
    assert [(point.budget, point.share, point.drift) for point in points] == [(eps, 0.75, 0.3) for eps in BUDGETS]
