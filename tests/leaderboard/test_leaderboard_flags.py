"""Every flag is raised by its case and not raised by a sound one; the page lists the same codes as the code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from row_factory import BUDGETS, NEVER, cell, default_cells, examples, rows

import leaderboard.flags
from benchmark.schema import table
from leaderboard.comparisons import comparison_findings
from leaderboard.flags import CODES, cell_findings, few_clusters, net_gain, zero_budget
from leaderboard.outcomes import outcomes
from leaderboard.runs import MeasuredCell

SOUND = [0.05] * 30 + [0.2] * 30 + [NEVER] * 40


def raised(made: pa.Table, threat_model: str = "before_edit", constraint: str = "none") -> dict[str, float]:
    return {found.code: found.evidence for found in cell_findings(made, threat_model, constraint)}


def marked(share: float, **changes: object) -> pa.Table:
    """100 examples of which a share, at every budget, differs from held ones."""
    made = examples([NEVER] * 100)
    changed = {f"e{index:03d}" for index in range(round(100 * share))}
    return table([one | changes if one["example_id"] in changed else one for one in made])


def test_a_sound_cell_raises_nothing() -> None:
    assert raised(rows(SOUND)) == {}


@pytest.mark.parametrize(
    ("code", "limit"), [("zero-gradient", 0.01), ("not-converged", 0.1), ("remeasurement-lost", 0.02)]
)
def test_row_marks_raise_above_their_limit_only(code: str, limit: float) -> None:
    assert raised(marked(limit, flags=[code])) == {}
    assert raised(marked(limit + 0.01, flags=["other", code])) == {code: pytest.approx(limit + 0.01)}


@pytest.mark.parametrize("code", ["constraint-violated", "budget-violated"])
def test_one_violation_is_enough(code: str) -> None:
    assert raised(marked(0.01, flags=[code])) == {code: pytest.approx(0.01)}


def test_near_zero_normalisers_are_seen_by_flag_and_by_column() -> None:
    assert raised(marked(0.05, near_zero=True)) == {}
    assert set(raised(marked(0.06, near_zero=True))) == {"near-zero-normaliser"}
    assert set(raised(marked(0.06, flags=["near-zero-normaliser"]))) == {"near-zero-normaliser"}


def test_marks_that_do_not_fit_the_row_do_not_count() -> None:
    """A recovered row needs no convergence, a held one cannot overshoot, and rows never attacked say nothing."""
    assert raised(rows([0.05] * 40, flags=["not-converged"])) == {}
    assert raised(rows([NEVER] * 40, flags=["overshoot"])) == {}
    assert raised(rows([NEVER] * 40, suppressed=False, flags=["zero-gradient"], status="not_run")) == {}
    assert set(raised(rows([0.05] * 40, flags=["overshoot"]))) == {"overshoot"}


def test_failed_rows_are_counted() -> None:
    assert raised(marked(0.01, status="error")) == {"failed-rows": len(BUDGETS)}


def test_a_fall_with_budget_is_raised_when_it_is_significant() -> None:
    def fallen(count: int) -> pa.Table:
        made = examples([0.05] * 60)
        lost = {f"e{index:03d}" for index in range(count)}
        return table([one | {"recovered": one["budget_eps"] != 0.4 or one["example_id"] not in lost} for one in made])

    assert raised(fallen(1)) == {}
    assert raised(fallen(20)) == {"not-monotone": pytest.approx(1 / 3)}


def test_an_unbounded_attack_must_succeed_where_it_writes_the_stream_freely() -> None:
    def beyond(share: float) -> pa.Table:
        made = examples([NEVER] * 100)
        kept = {f"e{index:03d}" for index in range(round(100 * share))}
        return table([one | {"recovered": one["sanity"] and one["example_id"] in kept} for one in made])

    assert raised(beyond(0.95)) == {}
    assert raised(beyond(0.94)) == {"unbounded-below-95": pytest.approx(0.94)}
    assert raised(beyond(0.5), constraint="encoder") == {}
    assert raised(beyond(0.5), threat_model="soft_suffix") == {}


def test_degenerate_output_is_raised_above_a_fifth_of_what_came_back() -> None:
    def mixed(degenerate: int) -> pa.Table:
        back = examples([0.05] * 80)
        broken = examples([NEVER] * degenerate, outcome="degenerate")
        return table(back + [one | {"example_id": f"d{one['example_id']}"} for one in broken if not one["sanity"]])

    assert raised(mixed(20)) == {}
    assert raised(mixed(21)) == {"degenerate": pytest.approx(21 / 101)}


def test_clusters_are_counted_and_not_rows() -> None:
    assert list(few_clusters(outcomes(rows([NEVER] * 30)))) == []
    assert [one.evidence for one in few_clusters(outcomes(rows([NEVER] * 90, cluster=lambda index: index % 29)))] == [
        29
    ]
    few = table([one | {"suppressed": str(one["example_id"]) < "e010"} for one in examples([NEVER] * 60)])
    assert [one.evidence for one in few_clusters(outcomes(few))] == [10]


def test_a_zero_budget_must_recover_nothing() -> None:
    assert list(zero_budget(rows([NEVER] * 9, (0.0,)))) == []
    assert [one.evidence for one in zero_budget(rows([0.0] * 2 + [NEVER] * 7, (0.0,)))] == [2]


def compared(cells: Sequence[MeasuredCell]) -> list[tuple[str, str]]:
    return [(plan.key, finding.code) for plan, finding in comparison_findings(cells)]


def test_the_default_plan_of_a_sound_attack_raises_no_comparison() -> None:
    assert compared(default_cells(SOUND, SOUND)) == []


def test_random_directions_must_not_win() -> None:
    gradient = cell(rows([NEVER] * 100))
    lucky = cell(rows([0.1] * 10 + [NEVER] * 90, attack="random-direction"), role="control")
    elsewhere = cell(rows([0.1] * 10 + [NEVER] * 90, attack="random-direction", constraint="encoder"), role="control")
    assert compared([gradient, lucky]) == [(gradient.plan.key, "random-beats-gradient")]
    assert compared([gradient, elsewhere]) == []


def test_two_lucky_draws_of_a_hundred_are_no_win() -> None:
    lucky = cell(rows([0.1] * 2 + [NEVER] * 98, attack="random-direction"), role="control")
    assert compared([cell(rows([NEVER] * 100)), lucky]) == []


def test_less_freedom_must_not_win() -> None:
    weak, strong = rows([NEVER] * 100), [0.1] * 10 + [NEVER] * 90
    free, bound = cell(weak), cell(rows(strong, constraint="encoder"))
    after, before = cell(rows([NEVER] * 100, threat_model="after_edit")), cell(rows(strong))
    assert compared([free, bound]) == [(free.plan.key, "weaker-beats-stronger")]
    assert compared([after, before]) == [(after.plan.key, "weaker-beats-stronger")]
    assert compared([cell(rows(strong)), cell(rows([NEVER] * 100, constraint="encoder"))]) == []


def test_the_standard_error_of_a_gain_knows_clusters() -> None:
    won = np.arange(40) < 10
    lonely = net_gain(won, won & False, np.arange(40).astype(str))
    clustered = net_gain(won, won & False, (np.arange(40) // 10).astype(str))
    assert lonely[0] == clustered[0] == 0.25
    assert lonely[1] == pytest.approx(np.sqrt(0.25 * 0.75 / 40))
    assert clustered[1] > 2 * lonely[1]


def test_page_and_code_list_the_same_codes_and_effects() -> None:
    page = (Path(leaderboard.flags.__file__).with_name("FLAGS.md")).read_text(encoding="utf-8")
    sections = re.findall(r"^## ([a-z0-9-]+)\nEffect: ([a-z-]+)\.\nRaised if: ", page, flags=re.MULTILINE)
    assert dict(sections) == CODES
    assert page.count("\nWhat it means: ") == page.count("\nWhat to do: ") == len(CODES)
