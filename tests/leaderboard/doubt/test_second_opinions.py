"""Flags about gradients: raised by most of the sampled rows, and by who was needed without one."""

from __future__ import annotations

import pytest

from leaderboard.doubt.second_opinions import opinion_findings
from leaderboard.doubt.slopes import slope_findings
from tests.leaderboard.row_factory import NEVER, examples, table


def sampled(misled: int, of: int, code: str, **changes: object) -> dict[str, float]:
    """What 100 examples raise of which ``of`` were sampled, and ``misled`` of those carry a code."""
    made = examples([NEVER] * 100)
    looked = {f"e{i:03d}": i < misled for i in range(of)}
    fine = {"slope_ratio": 1.0, "slope_gap": 0.0, "call_path_gap": 0.0}
    rows = [
        one | (fine | ({"flags": [code]} | changes if looked[str(one["example_id"])] else {}))
        if one["example_id"] in looked and one["budget_eps"] == 0.1
        else one
        for one in made
    ]
    return {found.code: found.evidence for found in slope_findings(table(rows))}


def test_slopes_raise_where_most_of_the_sample_was_misled() -> None:
    assert sampled(0, 20, "gradient-mismatch") == sampled(10, 20, "gradient-mismatch", slope_ratio=0.3) == {}
    assert sampled(11, 20, "gradient-mismatch", slope_ratio=0.3) == {"gradient-mismatch": pytest.approx(0.3)}
    assert sampled(20, 20, "gradient-mismatch", slope_ratio=None) == {"gradient-mismatch": float("inf")}
    assert sampled(0, 0, "gradient-mismatch") == {}


def test_callers_raise_apart_from_slopes() -> None:
    assert sampled(12, 20, "depends-on-caller", call_path_gap=0.7) == {"depends-on-caller": pytest.approx(0.7)}
    assert sampled(8, 20, "depends-on-caller", call_path_gap=0.7) == {}


def opinions(needed: int, found_by: str = "way-back", of: int = 100) -> dict[str, float]:
    """What 100 examples raise that come back at once, ``needed`` of them by another member than the search."""
    made = examples([0.05] * of)
    rows = [one | {"found_by": found_by if str(one["example_id"]) < f"e{needed:03d}" else "search"} for one in made]
    return {found.code: found.evidence for found in opinion_findings(table(rows))}


def test_members_without_a_gradient_raise_where_they_were_needed_for_more_than_chance() -> None:
    assert opinions(0) == opinions(2) == {}
    assert opinions(10) == {"gradient-free-beats-gradient": pytest.approx(0.1)}
    assert opinions(1, of=20) == {}, "one of twenty is chance"


def test_other_members_raise_nothing() -> None:
    assert opinions(50, "straight-through") == opinions(50, "replay") == {}


def test_whoever_came_first_does_not_matter_once_the_search_succeeds_at_a_smaller_budget() -> None:
    made = examples([0.05] * 50)
    late = [one | {"found_by": "way-back" if one["budget_eps"] == 0.4 else "search"} for one in made]
    assert list(opinion_findings(table(late))) == []
