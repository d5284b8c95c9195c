"""What the parts of the perturbations do alone, attack by attack: a row an attack, a column a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leaderboard.figures.lines import key_of
from leaderboard.rows.arrays import text
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.parts import Attribution, attribution
from leaderboard.scores.resampling import Resampler
from leaderboard.scores.values import Estimate

NAMES = {"residual": "not explained\nby the SAE", "other": "other\nlatents", "clamped": "clamped\nlatents"}
KINDS = (("own norm", "recovered", "#56B4E9", -0.2), ("norm of the whole", "equal_recovered", "#0072B2", 0.2))
"""Label, field, colour and place of the bars of a part."""
RANDOM = "random, norm of the whole"
LABELS = (*(label for label, *_ in KINDS), RANDOM)
"""What the legend shows."""

Parts = dict[str, Attribution]
"""By attack, in the order in which attacks are drawn."""


def replayed(cells: Sequence[MeasuredCell], resampler: Resampler) -> Parts:
    """The parts of the attacks on one task and defense whose perturbations were taken apart."""
    attacks = sorted((cell for cell in cells if cell.plan.attacks), key=lambda cell: (key_of(cell), cell.plan.attack))
    found = {_name(cell): _parts(cell, resampler) for cell in attacks}
    return {name: parts for name, parts in found.items() if parts is not None}


def _name(cell: MeasuredCell) -> str:
    key = key_of(cell)
    return "\n".join([cell.plan.attack, *(key.label.split(", ") if key else ())])


def _parts(cell: MeasuredCell, resampler: Resampler) -> Attribution | None:
    return attribution(cell.rows, resampler.of(cell.plan.task, text(cell.rows, "cluster_id")))


def replay(axis: Any, parts: Attribution) -> None:
    """The share of the recoveries that each part brings back alone, beside random vectors of the norm of the whole;
    what is no part of any of them has no bar."""
    for label, field, colour, offset in KINDS:
        for place, part in enumerate(NAMES):
            _bar(axis, place + offset, getattr(parts.parts[part], field), colour, label if place == 0 else None)
    for place, part in enumerate(NAMES):
        n = parts.parts[part].n
        if n < parts.n:
            axis.text(place, 0.82, f"n = {n}" if n else "none", ha="center", fontsize=7, color="#707070")
    axis.axhline(parts.random_recovered.value, color="#D55E00", linestyle="--", label=RANDOM)
    axis.set_xticks(range(len(NAMES)), list(NAMES.values()), fontsize=7.5)
    axis.text(0.98, 0.94, f"n = {parts.n}", ha="right", va="top", fontsize=7.5, transform=axis.transAxes)


def _bar(axis: Any, place: float, found: Estimate, colour: str, label: str | None) -> None:
    axis.bar([place], [found.value or 0.0], width=0.38, color=colour, label=label)
    if found.value is not None and found.interval is not None:
        reach = [[max(0.0, found.value - found.interval.low)], [max(0.0, found.interval.high - found.value)]]
        axis.errorbar([place], [found.value], yerr=reach, color="#404040", linewidth=0.8, capsize=2)
