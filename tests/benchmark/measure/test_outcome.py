"""Rows, made whole: margins, flags, outcomes, and what was not attacked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmark.contracts.example import Example, Goal
from benchmark.contracts.row import Cost, Drift, Identity, Margins, Row
from benchmark.measure.judging import Judged
from benchmark.measure.outcome import Attacked, Left, flags, make_rows, margins
from benchmark.measure.remeasure import VIOLATION, Measured, Size

COST = Cost(steps=3, forwards=4, backwards=3, seconds=0.1)


def world(base: float = 2.0, defended: float = -2.0) -> Any:
    """What rows ask of a group of one example."""

    def judged(margin: float) -> Judged:
        return Judged(["yes" if margin > 0 else "no"], torch.tensor([margin]), [None])

    eligible, suppressed = torch.tensor([base > 0]), torch.tensor([base > 0 and defended <= 0])
    return SimpleNamespace(
        base=judged(base),
        defended=judged(defended),
        eligible=eligible,
        suppressed=suppressed,
        examples=[Example("e", "c", "")],
        task=SimpleNamespace(readout=SimpleNamespace(writes_text=False)),
        wrong_margins=[-3.0],
    )


def measured(margin: float, recovered: bool | None = None, label: str = "", **changes: Any) -> Measured:
    reached = margin > 0 if recovered is None else recovered
    return Measured(label, margin, reached, 0.0, Size(0.5, 0.25, (0.5,)), None, None, None)._replace(**changes)


def rows(found: list[Measured] | Left, goal: Goal = "behavior", sanity: int = 0) -> list[Row]:
    """Rows at budgets 1, 2, 3 ..., the last ``sanity`` of which only serve flags."""
    n = 1 if isinstance(found, Left) else len(found)
    names = dict.fromkeys(("run_id", "cell_key", "task", "example_id", "cluster_id", "defense", "attack"), "e")
    identities = [
        Identity(
            **names, threat_model="t", constraint="none", goal=goal, seed=0, budget_eps=i + 1.0, sanity=i >= n - sanity
        )
        for i in range(n)
    ]
    attacked = found if isinstance(found, Left) else [Attacked(m, 0.5, COST, ()) for m in found]
    return make_rows(world(), 0, identities, attacked)


def test_recovered_fraction_is_clipped_and_overshoot_reported() -> None:
    shown = {m: margins(world(), 0, m, "behavior") for m in (0.0, 5.0, -9.0)}
    assert [(m.recovered_fraction, m.overshoot) for m in shown.values()] == [(0.5, 0.0), (1.0, 1.5), (0.0, 0.0)]
    assert margins(world(2.0, 3.0), 0, 5.0, "behavior").recovered_fraction is None, "nothing was lost"


def test_a_wrong_target_has_a_margin_of_its_own_and_no_share_of_the_behaviors() -> None:
    assert margins(world(), 0, 5.0, "wrong") == Margins(
        margin_base=2.0, margin_defended=-2.0, margin_start=-3.0, margin_attacked=5.0
    )


@pytest.mark.parametrize(
    ("found", "raised"),
    [
        (measured(1.0), ()),
        (measured(-1.0), ("zero-gradient", "remeasurement-lost")),
        (measured(-1.0, begun=True), ("zero-gradient",)),
        (measured(1.0, False, violation=2 * VIOLATION), ("zero-gradient", "constraint-violated", "remeasurement-lost")),
        (measured(1.0, size=Size(1.01, 1.0, (1.01,))), ("budget-violated",)),
        (measured(3.5), ("overshoot",)),
    ],
)
def test_a_row_is_flagged_for_what_is_doubtful_and_a_success_not_for_its_search(
    found: Measured, raised: tuple[str, ...]
) -> None:
    shown = margins(world(), 0, found.margin, "behavior")
    assert flags(found, shown, 1.0, True, {"zero-gradient": True, "not-converged": False}) == raised


def test_a_normaliser_near_zero_is_flagged() -> None:
    values = {n: 0.0 if f.annotation is float else None for n, f in Drift.model_fields.items()}
    for near in (True, False):
        found = measured(1.0, drift=Drift.model_validate(values | {"near_zero": near}))
        assert ("near-zero-normaliser" in flags(found, margins(world(), 0, 1.0, "behavior"), 1.0, True, {})) is near


def test_the_smallest_budget_that_succeeded_is_not_one_for_sanity() -> None:
    held, hit = measured(-1.0), measured(1.0)
    assert {row.outcome.eps_star for row in rows([held, hit, hit], sanity=1)} == {2.0}
    assert {row.outcome.eps_star for row in rows([held, held, hit], sanity=1)} == {None}


def test_outcomes_are_named() -> None:
    found = rows(
        [measured(-1.0), measured(1.0), measured(-1.0, label="degenerate"), measured(1.0, False, "degenerate")]
    )
    assert [row.outcome.outcome for row in found] == ["held", "recovered", "degenerate", "held"]
    (broken,) = rows([measured(1.0, False, "degenerate", broken=True)])
    assert broken.outcome.outcome == "degenerate", "whatever the margin, the model is broken"
    assert [row.written and row.written.first_success_eps for row in found] == [None, 0.25, None, None]


@pytest.mark.parametrize(
    ("base", "defended", "left", "recovered", "named"),
    [
        (-1.0, -1.0, Left("not_run", None), None, None),
        (1.0, 1.0, Left("not_run", None), None, "never_suppressed"),
        (1.0, -1.0, Left("not_run", None), False, "held"),
        (1.0, -1.0, Left("not_run", "why"), False, None),
        (1.0, -1.0, Left("error", "why"), False, None),
    ],
)
def test_what_was_not_attacked_says_why(
    base: float, defended: float, left: Left, recovered: bool | None, named: str | None
) -> None:
    (identity,) = (row.identity for row in rows(left))
    (row,) = make_rows(world(base, defended), 0, [identity], left)
    assert (row.outcome.recovered, row.outcome.outcome) == (recovered, named)
    assert (row.outcome.status, row.outcome.error) == tuple(left)
    assert row.written is row.cost is row.drift is row.detection is row.attribution is None
    assert row.margins.margin_attacked is None
