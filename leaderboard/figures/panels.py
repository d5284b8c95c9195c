"""Recovery of one task: over the budget, and against how far the protected latents moved; an attack a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from leaderboard.figures.canvas import plain_ticks
from leaderboard.figures.lines import Line, Point, with_points
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.resampling import Resampler

Drawable = list[tuple[Line, list[Point]]]


class Panel(NamedTuple):
    """A kind of figure, one panel a task."""

    name: str
    title: str
    drawable: Callable[[Sequence[Line], Sequence[MeasuredCell], Resampler], Drawable]
    """What the cells of one task and defense have for it."""
    draw: Callable[[Any, Drawable], None]
    """On an axis."""


def on_budgets(drawn: Sequence[Line], cells: Sequence[MeasuredCell], resampler: Resampler) -> Drawable:
    """Lines over eps; budgets that are no norms have no place on that axis."""
    return list(with_points(drawn, [cell for cell in cells if cell.threat.unit != "tokens"], resampler))


def recovery(axis: Any, found: Drawable) -> None:
    """Recovered share over eps, each with its interval."""
    for line, points in found:
        known = [(p.budget, p.interval) for p in points if p.interval is not None]
        low, high = [i.low for _, i in known], [i.high for _, i in known]
        axis.fill_between([budget for budget, _ in known], low, high, color=line.colour, alpha=0.12, linewidth=0)
        axis.plot([p.budget for p in points], [p.share for p in points], label=line.key.label, **_style(line))
    axis.set_xscale("log")
    plain_ticks(axis, sorted({p.budget for _, points in found for p in points if p.budget}))
    axis.set_xlabel("eps: share of the norm of the stream or of the embeddings", fontsize=7.5)


def on_drift(drawn: Sequence[Line], cells: Sequence[MeasuredCell], resampler: Resampler) -> Drawable:
    """Lines of which the drift is known."""
    found = with_points(drawn, cells, resampler)
    known = [(line, [p for p in points if p.drift is not None]) for line, points in found]
    return [(line, points) for line, points in known if points]


def drift(axis: Any, found: Drawable) -> None:
    """Recovered share, with its interval, against the drift of the protected latents, a point a budget."""
    for line, points in found:
        for p in points:
            if p.interval is not None:
                axis.vlines(p.drift, p.interval.low, p.interval.high, color=line.colour, linewidth=0.8, alpha=0.5)
        axis.plot([p.drift for p in points], [p.share for p in points], label=line.key.label, **_style(line))
    axis.set_xscale("symlog", linthresh=1e-3)
    axis.set_xlim(left=-2e-4)
    axis.set_xlabel("median drift of the protected pre-activations (L2)", fontsize=7.5)


PANELS = (
    Panel("recovery", "Recovery over the budget", on_budgets, recovery),
    Panel("drift", "Recovery against drift", on_drift, drift),
)


def _style(line: Line) -> dict[str, Any]:
    return {"color": line.colour, "marker": line.marker, "linestyle": line.dash, "linewidth": 1.5, "markersize": 4.5}
