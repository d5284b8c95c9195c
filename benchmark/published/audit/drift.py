"""Pairs about drift: of which row, at which positions, and divided by what."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.contracts.row import Drift
from benchmark.measure.remeasure import Measured
from benchmark.published.audit.reading import Reading, means
from benchmark.published.audit.workbench import STEPS, Workbench, measured, setting, under
from benchmark.published.drift import PaperDrift, first_speaks
from benchmark.published.switches import Switch


def first_row(bench: Workbench) -> list[Reading]:
    """The mean drift of all rows, and the first row's in its place."""
    switch, group = Switch.FIRST_ROW_DRIFT, bench.choices
    where = setting(group, f"Adam, {STEPS} steps, one batch", bench.top(group))
    rows = measured(under(switch, group), bench.free)
    spoken = first_speaks((0.0, drift) for drift in as_published(rows))
    sides = [[d.drift_abs for d in drifts(rows)], [d.drift_abs for d in spoken if d]]
    return [
        Reading.of(switch, "mean drift", "L2", means(sides), len(rows), where),
        Reading.of(switch, "largest drift", "L2", [max(side) for side in sides], len(rows), where),
    ]


def anchor(bench: Workbench) -> list[Reading]:
    """Drift from the perturbed position on, and at the answer's positions alone."""
    switch, group = Switch.UNMONITORED_ANCHOR, bench.text
    where = setting(group, "last prompt position perturbed", bench.top(group))
    rows = measured(under(switch, group), bench.anchored)
    sides = (drifts(rows), as_published(rows))
    moved = [[d.drift_abs for d in side] for side in sides]
    return [
        Reading.of(switch, "drift of the protected activations", "L2", means(moved), len(rows), where),
        Reading.of(switch, "the same, relative", "share", means(map(_known, sides)), len(rows), where),
    ]


def vacuous(bench: Workbench) -> list[Reading]:
    """Relative drift, null where the norm is near zero, and with 1e-8 added to whatever norm there is."""
    switch, group = Switch.VACUOUS_DRIFT, bench.choices
    where = setting(group, f"Adam, {STEPS} steps", bench.top(group))
    rows = measured(under(switch, group), bench.free)
    sides = (drifts(rows), as_published(rows))
    undefined = [[d.drift_rel is None for d in side] for side in sides]
    return [
        Reading.of(switch, "mean relative drift", "share", means(map(_known, sides)), len(rows), where),
        Reading.of(switch, "rows without a relative drift", "share", means(undefined), len(rows), where),
    ]


def drifts(rows: Sequence[Measured]) -> list[Drift]:
    """Ours of every row."""
    return [row.drift for row in rows if row.drift is not None]


def as_published(rows: Sequence[Measured]) -> list[PaperDrift]:
    """The study's of every row."""
    return [row.extra for row in rows if isinstance(row.extra, PaperDrift)]


def _known(side: Sequence[Drift] | Sequence[PaperDrift]) -> list[float]:
    return [d.drift_rel for d in side if d.drift_rel is not None]
