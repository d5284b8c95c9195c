"""RS, AURC and eps50: their algebra, with a curve whose area is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from leaderboard.rows.arrays import Array
from leaderboard.scores.curves import areas, covers, curve, holding, violations
from leaderboard.scores.half_points import Eps50, smallest_half_point
from leaderboard.scores.outcomes import Outcomes, outcomes
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.threats import CurveKind, grid
from tests.leaderboard.row_factory import BUDGETS, NEVER, against, examples, row, rows, table

GRID = grid(BUDGETS, 0.4)


def robust_suppression(worst: Outcomes, budgets: Array) -> Array:
    return holding(worst, budgets, selective=True).mean(axis=0)


def half_point(made: pa.Table, budgets: Array = GRID, count: int = 200) -> Eps50:
    worst = outcomes(made)
    drawn = Resamples.draw(worst.clusters, np.random.default_rng(0), count)
    return curve(worst, budgets, drawn, CurveKind("before_edit", "before_edit")).raw.eps50


def aurc(made: pa.Table, *, selective: bool = True) -> float:
    return float(areas(outcomes(made), GRID, selective=selective).mean())


def test_rs_falls_and_its_area_lies_between_its_ends() -> None:
    """Whatever the attack did at each budget, an example once lost stays lost."""
    for seed in range(20):
        check_rs(np.random.default_rng(seed))


def check_rs(rng: np.random.Generator) -> None:
    count = int(rng.integers(1, 8))
    suppressed = rng.random(count) < 0.7
    hits = suppressed[:, None] & (rng.random((count, len(BUDGETS))) < 0.4)
    made = table(
        [
            row(
                f"e{line}",
                eps,
                suppressed=bool(suppressed[line]),
                recovered=bool(hits[line, column]),
            )
            for line in range(count)
            for column, eps in enumerate(BUDGETS)
        ]
    )
    rs = robust_suppression(outcomes(made), np.array([0.0, *BUDGETS]))
    assert (np.diff(rs) <= 0).all()
    assert rs[0] == np.mean(suppressed)
    assert rs[-1] - 1e-12 <= aurc(made) <= rs[1] + 1e-12


def test_never_recovered_scores_clean_suppression_and_recovered_at_once_scores_zero() -> None:
    half = examples([NEVER] * 10) + examples([NEVER] * 10, suppressed=False)
    renamed = [made | {"example_id": f"{made['example_id']}-{made['suppressed']}"} for made in half]
    assert aurc(table(renamed)) == pytest.approx(0.5)
    assert aurc(rows([0.01] * 10)) == 0


def test_a_defense_that_does_nothing_scores_zero() -> None:
    nothing = rows([NEVER] * 10, suppressed=False)
    assert robust_suppression(outcomes(nothing), np.array([0.0]))[0] == 0
    assert aurc(nothing) == 0


def test_a_curve_that_falls_evenly_in_log_eps_has_its_closed_form_area() -> None:
    """RS falls from 1 to 0 in equal steps, at norms half way between budgets equally spaced in log eps: one half."""
    budgets = np.geomspace(0.01, 1, 11)
    norms = np.sqrt(budgets[1:] * budgets[:-1])
    made = table(
        [
            row(f"e{line}", eps, recovered=bool(eps >= norm), delta_norm=10 * min(norm, eps))
            for line, norm in enumerate(norms)
            for eps in budgets.tolist()
        ]
    )
    assert areas(outcomes(made), budgets).mean() == pytest.approx(0.5)


def test_the_area_is_read_off_the_norm_that_was_measured_and_not_off_the_grid() -> None:
    def area(norm: float | None, **changes: object) -> float:
        made = [row("e", eps, recovered=eps >= 0.2, delta_norm=norm and 10 * norm) | changes for eps in BUDGETS]
        return float(areas(outcomes(table(made)), GRID)[0])

    width = np.log(GRID[-1] / GRID[0])
    assert area(0.15) == pytest.approx(np.log(0.15 / GRID[0]) / width)
    assert area(0.2) == area(None) == area(7.0) == pytest.approx(np.log(0.2 / GRID[0]) / width), "at most the budget"
    assert area(0.001) == 0 and area(0.15, recovered=False) == 1 and area(0.15, suppressed=False) == 0


def test_on_one_budget_the_area_is_what_holds_there() -> None:
    made = rows([0.05, 0.1, NEVER, NEVER])
    assert areas(outcomes(made), np.array([0.05])).tolist() == [0, 1, 1, 1]


def test_duplicates_and_order_change_nothing() -> None:
    made = examples([0.05, 0.2, NEVER, 0.4, 0.1])
    shuffled = [made[index] for index in np.random.default_rng(0).permutation(2 * len(made)) % len(made)]
    one, other = outcomes(table(made)), outcomes(table(made + shuffled))
    for name in ("examples", "clusters", "suppressed", "budgets", "recovered", "selective"):
        assert (getattr(one, name) == getattr(other, name)).all()


def test_the_worst_case_is_over_attacks_and_seeds_per_example() -> None:
    """Two attacks that break half each break everything together; their mean would hide it."""
    first, second = [0.05] * 5 + [NEVER] * 5, [NEVER] * 5 + [0.05] * 5
    for other in (rows(second, attack="other"), rows(second, seed=1)):
        together = pa.concat_tables([rows(first), other])
        assert robust_suppression(outcomes(together), np.array([0.05]))[0] == 0
    assert robust_suppression(outcomes(rows(first)), np.array([0.05]))[0] == 0.5


def test_sanity_budgets_and_ineligible_examples_do_not_count() -> None:
    made = rows([NEVER] * 4)
    assert outcomes(made).budgets.tolist() == list(BUDGETS)
    strangers = table([row("x", eps, eligible=False, suppressed=False, status="not_run") for eps in BUDGETS])
    assert len(outcomes(pa.concat_tables([made, strangers])).examples) == 4


def test_a_recovery_counts_unless_it_is_known_not_to_be_selective() -> None:
    cases = {"never": [NEVER] * 4, "later": [0.1] * 4, "as soon": [0.05] * 4, "unknown": None}
    found = {name: aurc(against(rows([0.05] * 4), steered)) for name, steered in cases.items()}
    assert found == {"never": 0, "later": 0, "as soon": 1, "unknown": 0}
    assert aurc(against(rows([0.05] * 4), [0.05] * 4), selective=False) == 0


def test_drift_beyond_tau_is_no_recovery_and_unknown_drift_is_none_either() -> None:
    small = {"drift_abs": 1.0, "drift_rel": 0.05}
    cases = [
        (small, True),
        (small | {"drift_rel": 0.2}, False),
        (small | {"drift_rel": None, "drift_rel_base": 0.05}, True),
        ({"drift_abs": 0.0, "drift_rel": None}, True),
        ({"drift_abs": 1.0}, False),
    ]
    for drift, counts in cases:
        assert outcomes(rows([0.05], **drift), within=0.1).recovered.any() == counts


def test_eps50_is_interpolated_in_log_eps() -> None:
    """A quarter back at 0.1 and three quarters at 0.4: half is back at the geometric mean, 0.2."""
    found = half_point(rows([0.1, 0.4, 0.4, NEVER], (0.1, 0.4)), np.array([0.1, 0.4]))
    assert found.value == pytest.approx(0.2) and found.censored is None


def test_eps50_is_censored_at_both_ends_and_null_without_suppression() -> None:
    found = [half_point(made) for made in (rows([NEVER] * 6), rows([0.01] * 6), rows([NEVER] * 6, suppressed=False))]
    assert [(one.value, one.censored) for one in found] == [(0.4, "above"), (0.05, "below"), (None, None)]
    assert found[0].low is None and found[0].high is None
    assert smallest_half_point(found) == found[1] and smallest_half_point([found[2]]).value is None
    assert smallest_half_point([found[0], Eps50(value=0.4)]).censored is None, "half is back, not nearly"


def test_eps50_of_few_examples_has_an_interval_that_may_end_beyond_the_grid() -> None:
    found = half_point(rows([0.05, 0.05, 0.1, 0.2, 0.2, NEVER, NEVER, NEVER, NEVER]), count=2000)
    assert found.low is not None and found.value is not None
    assert found.low < found.value and found.high is None


def test_violations_are_counted_before_the_worst_case_hides_them() -> None:
    clean = examples([0.05, 0.2, NEVER])
    dropped = [made | {"recovered": False} if made["budget_eps"] == 0.4 else made for made in clean]
    assert violations(outcomes(table(clean))) == 0
    assert violations(outcomes(table(dropped))) == 2
    assert aurc(table(clean)) == aurc(table(dropped))


def test_a_curve_carries_raw_and_selective_and_its_budgets() -> None:
    worst = outcomes(against(rows([0.05, 0.1, NEVER, NEVER]), [0.05] * 4))
    drawn = Resamples.draw(worst.clusters, np.random.default_rng(0), 50)
    made = curve(worst, GRID, drawn, CurveKind("after_edit_within_tau", "after_edit", 0.1))
    assert [one.value for one in made.raw.rs] == [0.75, 0.5, 0.5, 0.5]
    assert made.selective is not None and [one.value for one in made.selective.rs] == [1, 1, 1, 1]
    unknown = curve(outcomes(rows([0.05])), GRID, drawn, CurveKind("before_edit", "before_edit"))
    assert unknown.selective is None, "nothing is known of the undefended model"
    assert made.raw.conditional_recovery.value == 0.5
    assert (made.budgets, made.threat_model, made.tau) == (list(BUDGETS), "after_edit", 0.1)


def test_the_grid_ends_at_the_ceiling_and_a_hole_in_it_is_seen() -> None:
    assert grid([0.4, 0.1, 0.0, 0.1, 4.0], 0.4).tolist() == [0.1, 0.4]
    assert grid([0.1, 4.0], None).tolist() == [0.1, 4.0]
    assert covers(outcomes(rows([NEVER])), GRID)
    assert not covers(outcomes(rows([NEVER], BUDGETS[:-1])), GRID)
    assert not covers(outcomes(rows([NEVER])), grid([0.1], 0.01))
