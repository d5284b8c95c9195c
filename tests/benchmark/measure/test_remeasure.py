"""The clean re-measurement: a recovery counts only together with its constraint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.contracts.protocol import Protocol
from benchmark.contracts.row import Drift
from benchmark.measure.group import Group
from benchmark.measure.remeasure import VIOLATION, Measured, Size, _counted, remeasure
from benchmark.search.pack_size import PackSize
from tests.groups import BUDGETS, SEARCH, Rows, aimed, named

NOTHING = dict.fromkeys(Drift.model_fields)
NUMBERS = dict.fromkeys((n for n, f in Drift.model_fields.items() if f.annotation is float), 0.0)


def counted(margin: float, moved: float, relative: float | None) -> Measured:
    """A row whose activations moved so far, under a tolerance of 0.03."""
    known = {**NOTHING, **NUMBERS, "near_zero": relative is None, "drift_abs": moved, "drift_rel": relative}
    group: Any = SimpleNamespace(drift_floor=0.5, protocol=Protocol())
    target: Any = SimpleNamespace(tolerance=0.03)
    return _counted(group, target, "yes", margin, 0.0, Size(1.0, 1.0, (1.0,)), Drift(**known), None, None)


@pytest.mark.parametrize(
    ("moved", "relative", "kept"),
    [(0.0, 0.0, True), (9.0, 0.03, True), (9.0, 0.031, False), (0.001, None, True), (0.02, None, False)],
)
def test_a_drift_past_the_tolerance_undoes_a_recovery(moved: float, relative: float | None, kept: bool) -> None:
    """Where nothing is active, drift is relative to the floor, here 0.5."""
    found = counted(1.0, moved, relative)
    assert found.recovered is kept and (found.violation <= VIOLATION) is kept
    assert not counted(-1.0, moved, relative).recovered, "and makes none"


def test_remeasured_rows_are_held_to_the_drift_that_was_measured(group: Group, searched: tuple[Rows, Any]) -> None:
    rows, deltas = searched
    example = named(group, next(row for row in rows if row["recovered"]))
    target = aimed(group, SEARCH, example)

    def measured(tolerance: float | None) -> list[Measured]:
        return remeasure(group, target._replace(tolerance=tolerance), deltas[example.id], len(BUDGETS), PackSize(9))

    free = measured(None)
    (first, drift), *_ = [(i, drifted(row)) for i, row in enumerate(free) if row.recovered]
    assert drift > 0.001
    wide, narrow = measured(1.01 * drift)[first], measured(0.99 * drift)[first]
    assert (wide.recovered, wide.violation) == (True, 0.0)
    assert not narrow.recovered and narrow.violation == pytest.approx(1 / 0.99 - 1, rel=1e-3)
    for tolerance in (0.5 * drift, 2 * drift):
        for row, unheld in zip(measured(tolerance), free, strict=True):
            assert row.recovered is (unheld.recovered and drifted(row) <= tolerance)


def drifted(row: Measured) -> float:
    assert row.drift is not None and row.drift.drift_rel is not None
    return row.drift.drift_rel
