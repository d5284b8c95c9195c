"""The figure of a comparison draws what ``--json`` says, and refuses in words what it cannot draw."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UsageError
from leaderboard.board.against import BaselineComparison, against
from leaderboard.board.compare import Differences, compare
from leaderboard.board.side import side
from leaderboard.commands import compare as verb
from leaderboard.figures import compare as drawn
from tests.leaderboard.row_factory import BUDGETS, NEVER, cell, rows, suffix_cells, write_run

pyplot = pytest.importorskip("matplotlib.pyplot")
TASKS = ("ioi", "tpp")
GOOD = [0.01] * 8 + [NEVER] * 24
BAD = [0.01] * 24 + [NEVER] * 8


def run(folder: Path, first: list[float]) -> str:
    ways: tuple[dict[str, Any], ...] = ({}, {"threat_model": "after_edit"})
    cells = [cell(rows(first, task=task, **way)) for task in TASKS for way in ways]
    return str(write_run(folder, [*cells, *(one for task in TASKS for one in suffix_cells(GOOD, task=task))]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sides")
    for name, first in (("good", GOOD), ("bad", BAD)):
        run(root / name, first)
    return root


@pytest.fixture(scope="module")
def differences(folder: Path) -> Differences:
    return compare(side(str(folder / "good")), side(str(folder / "bad")), resamples=200)


@pytest.fixture(scope="module")
def ways(folder: Path) -> BaselineComparison:
    return against(side(str(folder / "bad")), "soft-suffix", resamples=200)


@pytest.fixture(scope="class")
def figure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The figure of a drawing, kept open."""
    kept: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pyplot, "close", kept.append)
        drawn.save(request.getfixturevalue("drawing"), tmp_path_factory.mktemp("figure") / "figure.png")
    yield kept[0]
    pyplot.close(kept[0])


class TestDefenses:
    @pytest.fixture(scope="class")
    def drawing(self, differences: Differences) -> drawn.Drawing:
        return drawn.of_defenses(differences)

    def test_a_panel_has_both_curves_with_their_bands(self, figure: Any, differences: Differences) -> None:
        *panels, _ = figure.axes
        scored = [
            threat for of in differences.per_task.values() for threat in of.threats.values() if threat.p is not None
        ]
        assert len(panels) == len(scored) == 4
        for axis, one in zip(panels, scored, strict=True):
            lines = [line.get_ydata() for line in axis.lines if len(line.get_xdata()) == len(BUDGETS)]
            for found, rs in zip(lines, (one.curves.first, one.curves.second), strict=True):
                assert list(found) == [value.value for value in rs]
            assert len(axis.collections) == 2 and list(axis.lines[0].get_xdata()) == list(BUDGETS)

    def test_differences_have_their_intervals_and_only_significant_ones_are_filled(
        self, figure: Any, drawing: drawn.Drawing
    ) -> None:
        forest = figure.axes[-1]
        filled = [line.get_markerfacecolor() != "white" for line in forest.lines if line.get_marker() == "o"]
        assert filled == [one.significant for one in drawing.differences] == [True, False, True, False]
        ends = [tuple(line.get_xdata()) for line in forest.lines if line.get_marker() == "None"][1:]
        known = [one.area.difference.interval for one in drawing.differences]
        assert ends == [(one.low, one.high) for one in known if one is not None]
        assert [label.get_text() for label in forest.get_yticklabels()][0] == "ioi, before edit"

    def test_the_numbers_are_those_of_the_json(self, drawing: drawn.Drawing, differences: Differences) -> None:
        again = drawn.of_defenses(Differences.model_validate_json(differences.model_dump_json()))
        assert again.differences == drawing.differences and again.names == ("clamp", "clamp")

    def test_curves_in_the_json_are_those_of_the_score(self, differences: Differences) -> None:
        for of in differences.per_task.values():
            for one in of.threats.values():
                assert one.curves.budgets == list(BUDGETS) and one.curves.first[-1].value == pytest.approx(
                    one.area.first
                )


class TestWays:
    @pytest.fixture(scope="class")
    def drawing(self, ways: BaselineComparison) -> drawn.Drawing:
        return drawn.of_ways(ways)

    def test_a_panel_has_both_ways_at_shares_of_their_ceilings(self, figure: Any, ways: BaselineComparison) -> None:
        *panels, forest = figure.axes
        assert len(panels) == len(ways.per_task) == 2
        for axis, one in zip(panels, ways.per_task, strict=True):
            assert list(axis.lines[0].get_ydata()) == [at.any.first.value for at in one.reach]
            assert list(axis.lines[1].get_ydata()) == [at.any.second.value for at in one.reach]
        assert len([line for line in forest.lines if line.get_marker() == "o"]) == 2


@pytest.mark.parametrize(("name", "magic"), [("a.svg", b"<?xml"), ("a.PDF", b"%PDF")])
def test_the_ending_says_the_kind(differences: Differences, tmp_path: Path, name: str, magic: bytes) -> None:
    drawn.save(drawn.of_defenses(differences), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic) and len([*tmp_path.iterdir()]) == 1


def test_another_ending_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="end it in .png, .svg or .pdf"):
        verb("no run", "neither", figure=tmp_path / "a.jpeg")


def test_without_matplotlib_the_extra_is_named(
    differences: Differences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"recoverybench\[plots\]"):
        drawn.save(drawn.of_defenses(differences), tmp_path / "a.png")
    assert [*tmp_path.iterdir()] == []


def test_nothing_to_draw_and_nowhere_to_write_are_told(differences: Differences, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --figure"):
        drawn.save(drawn.of_defenses(differences.model_copy(update={"per_task": {}})), tmp_path / "a.png")
    with pytest.raises(UsageError, match="give another --figure"):
        drawn.save(drawn.of_defenses(differences), tmp_path / "nowhere" / "a.png")
