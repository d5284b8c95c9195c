"""Every flag is raised by its case and not raised by a sound one; the page lists the same codes as the code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import leaderboard.doubt
from benchmark.contracts.row import TARGET_SHOWN
from leaderboard.doubt.cell_flags import cell_findings
from leaderboard.doubt.fit_flags import fit_findings
from leaderboard.doubt.flags import CODES, Finding, located
from leaderboard.doubt.gains import net_gain
from leaderboard.doubt.task_flags import few_clusters
from leaderboard.doubt.weaker_attacks import comparison_findings
from leaderboard.rows.fits import Fit
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.outcomes import outcomes
from tests.leaderboard.row_factory import (
    BUDGETS,
    NEVER,
    SANITY,
    THREATS,
    WRONG,
    against,
    cell,
    control,
    default_cells,
    examples,
    failed,
    only,
    rows,
    table,
    write_run,
    wrong,
)

SOUND = [0.05] * 30 + [0.2] * 30 + [NEVER] * 40


def raised(made: pa.Table, **plan: Any) -> dict[str, float]:
    return {found.code: found.evidence for found in cell_findings(cell(made, **plan))}


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


def test_a_control_is_not_doubted_for_what_an_attack_is() -> None:
    made = marked(1, flags=["zero-gradient"])
    assert raised(made, role="control") == {} != raised(made)


def test_failed_rows_are_counted_and_a_failed_sanity_budget_is_a_failure_of_the_attack() -> None:
    beyond = [one for one in examples([0.05] * 10) if one["sanity"]]
    ranked = [failed(f"e{index:03d}", eps) for index in range(10) for eps in BUDGETS]
    assert raised(table(ranked + beyond)) == {"failed-rows": 10 * len(BUDGETS)}
    worked = [one for one in examples([0.05] * 10) if not one["sanity"]]
    assert raised(table(worked + [failed(f"e{index:03d}", SANITY, sanity=True) for index in range(10)])) == {
        "unbounded-below-95": 0.0
    }


def test_a_fall_with_budget_is_raised_when_it_is_significant() -> None:
    def fallen(count: int) -> pa.Table:
        made = examples([0.05] * 60)
        lost = {f"e{index:03d}" for index in range(count)}
        return table([one | {"recovered": one["budget_eps"] != 0.4 or one["example_id"] not in lost} for one in made])

    assert raised(fallen(1)) == {}
    assert raised(fallen(20)) == {"not-monotone": pytest.approx(1 / 3)}


def test_an_attack_must_succeed_at_its_sanity_budget_where_the_plan_gives_it_one() -> None:
    def beyond(share: float) -> pa.Table:
        made = examples([NEVER] * 100)
        kept = {f"e{index:03d}" for index in range(round(100 * share))}
        return table([one | {"recovered": one["sanity"] and one["example_id"] in kept} for one in made])

    assert raised(beyond(0.95)) == {}
    assert raised(beyond(0.94)) == {"unbounded-below-95": pytest.approx(0.94)}
    assert raised(beyond(0.5), sanity_budgets=[]) == {}, "rows beyond the ceiling are no sanity budget"


def test_degenerate_output_is_raised_above_a_fifth_of_the_rows() -> None:
    assert raised(marked(0.2, outcome="degenerate")) == {}
    assert raised(marked(0.21, outcome="degenerate")) == {"degenerate": pytest.approx(0.21)}
    assert CODES["degenerate"] == "lower-bound-only"


def steered(shown: int, reached: int, undefended: int) -> dict[str, float]:
    """What 100 suppressed examples raise: the first of which all wrong targets are shown, the last ones reached."""
    made = examples([NEVER] * (100 - reached) + [0.4] * reached, **WRONG)
    gone = {f"e{index:03d}" for index in range(shown)}
    left = {"status": "not_run", "error": TARGET_SHOWN}
    rows_made = table([one | (left if one["example_id"] in gone else {}) for one in made])
    reference = [0.4] * undefended + [NEVER] * (100 - undefended)
    return {found.code: found.evidence for found in cell_findings(wrong(against(rows_made, reference)))}


def test_wrong_answers_that_are_shown_before_any_attack_are_planted() -> None:
    assert steered(50, 0, 0) == {}
    assert steered(51, 0, 0) == {"wrong-target-shown": 0.51}


def test_a_defense_that_makes_wrong_answers_cheap_is_told_so() -> None:
    assert steered(0, 30, 5) == {}
    assert steered(0, 40, 5) == {"steered-cheaply": pytest.approx(0.35)}
    unknown = wrong(table(examples([0.4] * 100, **WRONG)))
    assert list(cell_findings(unknown)) == [], "nothing is known of the undefended model"


def test_clusters_are_counted_and_not_rows() -> None:
    def fewest(made: pa.Table) -> list[float]:
        return [one.evidence for one in few_clusters(outcomes(made))]

    assert fewest(rows([NEVER] * 30)) == []
    assert fewest(rows([NEVER] * 90, cluster=lambda index: index % 29)) == [29]
    few = table([one | {"suppressed": str(one["example_id"]) < "e010"} for one in examples([NEVER] * 60)])
    assert fewest(few) == [10]


def test_a_zero_budget_must_recover_nothing_whatever_writes_it() -> None:
    def idle(first: list[float], budgets: tuple[float, ...] = (0.0,)) -> list[tuple[str, float]]:
        made = control(rows(first, budgets, attack="anything"))
        return [(one.code, one.evidence) for one in cell_findings(made)]

    assert idle([NEVER] * 9) == []
    assert idle([0.0] * 2 + [NEVER] * 7) == [("zero-budget-recovers", 2)]
    assert idle([0.0] * 2 + [NEVER] * 7, (0.0, 0.1)) == [], "it is more than nothing that was written"


def compared(cells: Sequence[MeasuredCell]) -> list[tuple[str, str]]:
    return [(plan.key, finding.code) for plan, finding in comparison_findings(cells)]


LUCKY = [0.1] * 10 + [NEVER] * 90
NOTHING = [NEVER] * 100


def test_the_default_plan_of_a_sound_attack_raises_no_comparison() -> None:
    assert compared(default_cells(SOUND, SOUND)) == []


@pytest.mark.parametrize("threat_model", ["before_edit", "token_suffix"])
def test_draws_at_random_must_not_win(threat_model: str) -> None:
    way: dict[str, Any] = {"threat_model": threat_model}
    gradient = cell(rows(NOTHING, **way))
    lucky = control(rows(LUCKY, attack="by-chance", **way))
    elsewhere = control(rows(LUCKY, attack="by-chance", constraint="encoder", **way))
    assert compared([gradient, lucky]) == [(gradient.plan.key, "random-beats-gradient")]
    assert compared([gradient, elsewhere]) == []
    assert compared([gradient, control(rows(LUCKY, attack="by-chance", **way), searches=True)]) == []
    assert compared([gradient, wrong(rows(LUCKY, attack="wrong-target", goal="wrong", **way))]) == []
    assert compared([gradient, control(rows([0.0] * 100, (0.0,), attack="nothing", **way))]) == []


def test_two_lucky_draws_of_a_hundred_are_no_win() -> None:
    lucky = control(rows([0.1] * 2 + [NEVER] * 98, attack="by-chance"))
    assert compared([cell(rows(NOTHING)), lucky]) == []


def test_a_threat_model_that_reaches_less_must_not_win() -> None:
    after, before = cell(rows(NOTHING, threat_model="after_edit")), cell(rows(LUCKY))
    assert compared([after, before]) == [(after.plan.key, "weaker-beats-stronger")]
    equal = THREATS["before_edit"] | {"reaches_less_than": None}
    assert compared([after, cell(rows(LUCKY), equal)]) == [], "it does not say so of itself"
    bound = cell(rows(NOTHING, threat_model="after_edit", constraint="encoder"))
    assert compared([bound, before]) == [], "the constraints differ"
    assert compared([cell(rows(LUCKY, threat_model="after_edit")), cell(rows(NOTHING))]) == []


@pytest.mark.parametrize(("less", "more"), [("jacobian", "encoder"), ("jacobian", "none"), ("encoder", "none")])
def test_constraints_are_ordered_by_what_they_leave_free(less: str, more: str) -> None:
    def pair(tight: list[float], free: list[float]) -> list[MeasuredCell]:
        return [cell(rows(tight, constraint=less)), cell(rows(free, constraint=more))]

    wrong_way = pair(LUCKY, NOTHING)
    assert compared(wrong_way) == [(wrong_way[1].plan.key, "weaker-beats-stronger")]
    assert compared(pair(NOTHING, LUCKY)) == []


def test_budgets_of_different_units_are_not_compared() -> None:
    """A soft suffix at eps 2 and a typed one of 2 tokens have nothing in common."""
    soft = cell(rows(NOTHING, (2.0,), attack="soft-suffix", threat_model="soft_suffix"))
    typed = cell(rows([2.0] * 100, (2.0,), attack="gcg", threat_model="token_suffix"))
    assert compared([soft, typed]) == []


def shares(test: float, dev: float, error: float = 0.02) -> dict[str, Any]:
    """What is suppressed on two splits."""
    return {split: {"share": share, "error": error, "n": 60} for split, share in (("test", test), ("dev", dev))}


HONEST: dict[str, Any] = {"nondeterminism": 0.0, "edit_moved": 0.2, "monitor_false_positives": 0.03}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        (dict.fromkeys(HONEST), {}),
        ({"nondeterminism": 0.01}, {"stochastic": 0.01}),
        ({"edit_moved": 0.0}, {"edit-not-executed": 0.0}),
        ({"monitor_false_positives": 0.031}, {"detects-benign": 0.031}),
        ({"broken_promises": ["finite: 3 of 4", "undone after use: 1 hook"]}, {"promise-broken": 2}),
        ({"suppressed_share": shares(0.9, 0.5)}, {"suppresses-test-more": 0.9 - 0.5}),
        ({"suppressed_share": shares(0.5, 0.9)}, {}),
        ({"suppressed_share": shares(0.9, 0.71)}, {}),
        ({"suppressed_share": shares(0.9, 0.5, error=0.1)}, {}),
        ({"suppressed_share": {"test": None, "dev": None}}, {}),
    ],
)
def test_a_fitted_defense_is_doubted_for_itself(changes: dict[str, Any], expected: dict[str, float]) -> None:
    fit = Fit.model_validate({"task": "ioi", "defense": "clamp"} | HONEST | changes)
    assert {found.code: found.evidence for found in fit_findings(fit)} == expected


@pytest.mark.parametrize(
    ("fits", "status"), [({"nondeterminism": 0.1}, "unranked"), ({"edit_moved": 0}, "unranked"), (HONEST, "ranked")]
)
def test_what_a_fit_is_doubted_for_bars_the_ranking(tmp_path: Path, fits: dict[str, Any], status: str) -> None:
    cells = default_cells([NEVER] * 20 + [0.05] * 20, [NEVER] * 40)
    entry = only(write_run(tmp_path / "run", cells, fits=fits))
    assert entry.verdict.status == status
    assert {flag.where for flag in entry.flags} <= {"ioi"}


def test_evidence_that_is_not_finite_is_null() -> None:
    flag = located(Finding("stochastic", float("inf"), "forwards differ"), "ioi", scored=True)
    assert flag.evidence is None and flag.effect == "lower-bound-only"


def test_the_standard_error_of_a_gain_knows_clusters() -> None:
    won = np.arange(40) < 10
    lonely = net_gain(won, won & False, np.arange(40).astype(str))
    clustered = net_gain(won, won & False, (np.arange(40) // 10).astype(str))
    assert lonely[0] == clustered[0] == 0.25
    assert lonely[1] == pytest.approx(np.sqrt(0.25 * 0.75 / 40))
    assert clustered[1] > 2 * lonely[1]


def test_page_and_code_list_the_same_codes_and_effects() -> None:
    page = Path(leaderboard.doubt.__file__).with_name("FLAGS.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## ([a-z0-9-]+)\nEffect: ([a-z-]+)\.\nRaised if: ", page, flags=re.MULTILINE)
    assert dict(sections) == CODES
    assert page.count("\nWhat it means: ") == page.count("\nWhat to do: ") == len(CODES)
