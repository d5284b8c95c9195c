"""Pairs about drift: of which row, at which positions, and divided by what."""

from __future__ import annotations

from benchmark.audit.reading import Reading, mean, means
from benchmark.audit.workbench import STEPS, Workbench, measured, setting, under
from benchmark.cells.remeasure import Row
from benchmark.protocol import Switch


def first_row(bench: Workbench) -> list[Reading]:
    """The mean drift of all rows, and the first row's in its place."""
    group = bench.choices
    where = setting(group, f"Adam, {STEPS} steps, one batch", bench.top(group))
    rows = measured(under(Switch.FIRST_ROW_DRIFT, group), bench.free)
    largest = [max(float(str(r[name])) for r in rows) for name in ("drift_abs", "paper_drift_abs")]
    switch, unit = Switch.FIRST_ROW_DRIFT, "L2"
    return [
        _reading(switch, "mean drift", unit, rows, "drift_abs", "paper_drift_abs", where),
        Reading.of(switch, "largest drift", unit, largest, len(rows), where),
    ]


def anchor(bench: Workbench) -> list[Reading]:
    """Drift from the perturbed position on, and at the answer's positions alone."""
    group = bench.text
    where = setting(group, "last prompt position perturbed", bench.top(group))
    rows = measured(under(Switch.UNMONITORED_ANCHOR, group), bench.anchored)
    switch = Switch.UNMONITORED_ANCHOR
    return [
        _reading(switch, "drift of the protected activations", "L2", rows, "drift_abs", "paper_drift_abs", where),
        _reading(switch, "the same, relative", "share", rows, "drift_rel", "paper_drift_rel", where),
    ]


def vacuous(bench: Workbench) -> list[Reading]:
    """Relative drift, null where the norm is near zero, and with 1e-8 added to whatever norm there is."""
    group = bench.choices
    where = setting(group, f"Adam, {STEPS} steps", bench.top(group))
    rows = measured(under(Switch.VACUOUS_DRIFT, group), bench.free)
    undefined = [[r[name] is None for r in rows] for name in ("drift_rel", "paper_drift_rel")]
    switch = Switch.VACUOUS_DRIFT
    return [
        _reading(switch, "mean relative drift", "share", rows, "drift_rel", "paper_drift_rel", where),
        Reading.of(switch, "rows without a relative drift", "share", means(undefined), len(rows), where),
    ]


def _reading(switch: Switch, what: str, unit: str, rows: list[Row], strict: str, paper: str, where: str) -> Reading:
    ours, theirs = ([r[name] for r in rows if r[name] is not None] for name in (strict, paper))
    return Reading(switch, what, unit, mean(ours), mean(theirs), len(rows), where)
