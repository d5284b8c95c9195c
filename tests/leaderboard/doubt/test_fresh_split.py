"""A defense that treats the public test examples as nothing else of their kind is flagged, and another one is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leaderboard.doubt.fresh_split import fresh_findings
from leaderboard.doubt.task_flags import WHOLE, task_flags
from leaderboard.rows.run import MeasuredCell
from tests.leaderboard.row_factory import HALF, NEVER, cell, rows


def fresh(first: list[float], **changes: Any) -> MeasuredCell:
    """The same attack on fresh examples."""
    made = cell(rows(first, **changes))
    return replace(made, plan=made.plan.model_copy(update={"split": "fresh", "key": "fresh"}))


ALL, NONE = [NEVER] * 32, [0.01] * 32


@pytest.mark.parametrize(
    ("public", "made", "codes"),
    [
        (HALF, HALF, 0),
        (HALF, [*HALF[:18], *HALF[18:]], 0),
        (ALL, NONE, 1),
        (NONE, ALL, 1),
        (ALL, [NEVER] * 29 + [0.01] * 3, 0),
        (HALF, [0.01, NEVER] * 3, 0),
    ],
    ids=["same", "order", "remembered", "strangers", "within-the-margin", "too-few-to-tell"],
)
def test_a_significant_gap_in_either_direction_is_flagged(public: list[float], made: list[float], codes: int) -> None:
    found = list(fresh_findings([cell(rows(public))], [fresh(made)]))
    assert [finding.code for finding in found] == ["fresh-split-differs"] * codes


def test_what_is_suppressed_without_an_attack_is_compared_too() -> None:
    (found, *_) = fresh_findings([cell(rows(ALL))], [fresh(ALL, suppressed=False)])
    assert found.evidence == -1.0 and "0.00 on 32 fresh examples, 1.00 on `test`" in found.sentence


def test_another_attack_or_a_control_is_not_compared() -> None:
    other = cell(rows(ALL, attack="universal"))
    assert not list(fresh_findings([other], [fresh(NONE)]))


def test_it_is_a_flag_of_the_task_that_bars_the_ranking() -> None:
    flags = task_flags([cell(rows(ALL))], None, [fresh(NONE)])[WHOLE]
    assert ("fresh-split-differs", "invalid") in {(flag.code, flag.effect) for flag in flags}
    assert not fresh(NONE).scored
