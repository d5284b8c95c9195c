"""What ``bench compare`` says, drawn: small multiples of both, and their differences with intervals below.

Every number is one of those that ``--json`` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import UsageError
from benchmark.files import remedy, write_atomically
from leaderboard.board.against import Against, BaselineComparison
from leaderboard.board.compare import Differences, TaskDifference, ThreatDifference
from leaderboard.figures.canvas import of_shares, plain, plain_ticks, pyplot
from leaderboard.scores.compared import Compared
from leaderboard.scores.intervals import LEVEL
from leaderboard.scores.values import Estimate
from leaderboard.tables.grid import across
from leaderboard.tables.wording import budget_name, words

KINDS = ("png", "svg", "pdf")
LOOKS = (("#0072B2", "-", "o"), ("#D55E00", "--", "s"))
"""Colour, dash and marker of the first and of the second."""


class Difference(NamedTuple):
    """A line of the panel of differences."""

    label: str
    area: Compared
    significant: bool


class Drawing(NamedTuple):
    """A figure before it is drawn."""

    title: str
    names: tuple[str, str]
    """What the first and the second are called in the legend."""
    panels: list[tuple[str, Callable[[Any], None]]]
    """Heading, and what draws the panel."""
    differences: list[Difference]
    measured: str
    """What the panels show."""
    read: str
    """How the differences are read, and which are marked."""


def save(drawing: Drawing, file: Path) -> None:
    """Draw into a file, of the kind that its name ends in.

    Raises:
        UsageError: matplotlib is missing, another kind of file, nothing to draw, or it cannot be written.
    """
    kind = check(file)
    if not drawing.panels:
        raise UsageError("nothing that enters the score was measured on both: there is nothing to draw; leave --figure")
    plt = pyplot()
    figure = _figure(plt, drawing)
    try:
        write_atomically(file, lambda draft: figure.savefig(draft, dpi=160, format=kind))
    except OSError as error:
        what, do = remedy(error)
        raise UsageError(f"cannot write {file}: {what}; {do}, or give another --figure") from error
    finally:
        plt.close(figure)


def check(file: Path) -> str:
    """The kind of a figure's file.

    Raises:
        UsageError: it is none that can be drawn.
    """
    kind = file.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise UsageError(f"{file} is no name of a figure; end it in .{', .'.join(KINDS[:-1])} or .{KINDS[-1]}")
    return kind


def of_defenses(found: Differences) -> Drawing:
    """RS(e) of both on every task and scored threat model."""
    scored = [
        (task, name, of, threat)
        for task, of in found.per_task.items()
        for name, threat in of.threats.items()
        if threat.p is not None
    ]
    lines = [Difference(f"{task}, {words(name)}", one.area, one.significant) for task, name, _, one in scored]
    return Drawing(
        title=f"Robust suppression on {found.suite}",
        names=(found.first.defense, found.second.defense),
        panels=[(f"{task}, {words(name)}", partial(_curves, of=of, threat=one)) for task, name, of, one in scored],
        differences=lines,
        measured="suppressed; dotted: RS(0)",
        read=f"right of 0 the first holds better; filled: p < {1 - LEVEL:.2g}, Holm's correction over all of these",
    )


def of_ways(found: BaselineComparison) -> Drawing:
    """What both ways bring back on every task, at equal shares of their ceilings."""
    lines = [
        Difference(_versus(one), one.area, one.area.p < 1 - LEVEL) for one in found.per_task if one.area is not None
    ]
    return Drawing(
        title=f"{found.defense.defense} on {found.suite}, against {found.against}",
        names=("the primary threat model", found.against),
        panels=[(_versus(one), partial(_reach, one=one)) for one in found.per_task],
        differences=lines,
        measured="share that came back",
        read=f"left of 0 the first brings more back; filled: p < {1 - LEVEL:.2g}, not corrected",
    )


def _versus(one: Against) -> str:
    return f"{one.task}, {words(one.first)}"


def _figure(plt: Any, drawing: Drawing) -> Any:
    columns = across(len(drawing.panels))
    down = -(-len(drawing.panels) // columns)
    tall = 0.26 * len(drawing.differences) + 0.8
    size = (max(2.7 * columns + 0.6, 5.4), 2.5 * down + tall + 1.0)
    figure = plt.figure(figsize=size, layout="constrained")
    figure.suptitle(drawing.title, fontsize=11)
    grid = figure.add_gridspec(down + 1, columns, height_ratios=[2.5] * down + [tall])
    for place, (heading, draw) in enumerate(drawing.panels):
        axis = figure.add_subplot(grid[place // columns, place % columns])
        of_shares(axis)
        draw(axis)
        axis.set_title(heading, fontsize=9, loc="left", fontweight="bold")
        if place % columns == 0:
            axis.set_ylabel(drawing.measured, fontsize=8)
    _forest(figure.add_subplot(grid[down, :]), drawing)
    _legend(figure, drawing.names)
    return figure


def _legend(figure: Any, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, ls=dash, marker=marker, label=name)  # pyright: ignore[reportArgumentType]
        for name, (colour, dash, marker) in zip(names, LOOKS, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)


def _curves(axis: Any, of: TaskDifference, threat: ThreatDifference) -> None:
    """RS(e) with its band, and RS(0) as a dotted level."""
    both = threat.curves
    clean = (of.rs0.first, of.rs0.second) if of.rs0 else (None, None)
    for rs, level, look in zip((both.first, both.second), clean, LOOKS, strict=True):
        _band(axis, both.budgets, rs, look)
        if level is not None:
            axis.axhline(level, color=look[0], linestyle=":", linewidth=1)
    axis.set_xscale("log")
    plain_ticks(axis, both.budgets)
    axis.set_xlabel(budget_name(both.unit), fontsize=7.5)


def _band(axis: Any, at: Sequence[float], values: Sequence[Estimate], look: tuple[str, str, str]) -> None:
    colour, dash, marker = look
    known = [(x, one) for x, one in zip(at, values, strict=True) if one.value is not None]
    axis.plot(
        [x for x, _ in known],
        [one.value for _, one in known],
        color=colour,
        linestyle=dash,
        marker=marker,
        markersize=4,
        linewidth=1.5,
    )
    bounded = [(x, one.interval) for x, one in known if one.interval is not None]
    if len(bounded) == 1:
        [(x, ends)] = bounded
        axis.plot([x, x], [ends.low, ends.high], color=colour, linewidth=1)
    axis.fill_between(
        [x for x, _ in bounded],
        [e.low for _, e in bounded],
        [e.high for _, e in bounded],
        color=colour,
        alpha=0.16,
        linewidth=0,
    )


def _reach(axis: Any, one: Against) -> None:
    """Share that came back at each share of the ceiling."""
    at = [reach.share for reach in one.reach]
    for side, look in zip(("first", "second"), LOOKS, strict=True):
        _band(axis, at, [getattr(reach.any, side) for reach in one.reach], look)
    axis.set_xlim(0, 1.05)
    axis.set_xticks(at, [f"{share:g}" for share in at], fontsize=8)
    axis.set_xlabel("budget, as a share of its ceiling", fontsize=7.5)


def _forest(axis: Any, drawing: Drawing) -> None:
    """The difference of the areas, a line each; filled where it is significant."""
    plain(axis)
    axis.axvline(0, color="#707070", linewidth=1)
    for place, one in enumerate(drawing.differences):
        value, ends = one.area.difference.value, one.area.difference.interval
        if ends is not None:
            axis.plot([ends.low, ends.high], [place, place], color="#404040", linewidth=1.2)
        face = "#404040" if one.significant else "white"
        axis.plot([value], [place], marker="o", markersize=5, color="#404040", markerfacecolor=face, linestyle="")
    axis.set_yticks(range(len(drawing.differences)), [one.label for one in drawing.differences], fontsize=8)
    axis.set_ylim(len(drawing.differences) - 0.5, -0.5)
    axis.set_xlabel(f"area under what is still suppressed, first less second ({drawing.read})", fontsize=7.5)
