"""Figures of finished runs: the study's qualitative findings, drawn from rows alone. Needs the extra ``plots``.

``recovery``: share of the suppressed examples that came back, over the budget, an attack a line and a task a panel.
``drift``: the same share against how far the protected latents moved. ``replay``: what the parts of the perturbations
that recovered do alone, where a run measured that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmark.errors import UsageError
from leaderboard.runs import MeasuredCell, PlannedCell, Run

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """How an attack is drawn: colours of Okabe and Ito, and a marker and a dash each for those who see none."""

    label: str
    colour: str
    marker: str
    dash: str
    chosen: Callable[[PlannedCell], bool]


def _attack(threat: str, constraint: str) -> Callable[[PlannedCell], bool]:
    return lambda cell: cell.attacks and cell.threat_model == threat and cell.constraint == constraint


def _control(name: str) -> Callable[[PlannedCell], bool]:
    return lambda cell: cell.attack == name and cell.constraint == "none" and cell.threat_model == "before_edit"


LINES: tuple[Line, ...] = (
    Line("before the defense", "#0072B2", "o", "-", _attack("before_edit", "none")),
    Line("behind it, free", "#56B4E9", "s", "-", _attack("after_edit", "none")),
    Line("behind it, encoder null space", "#009E73", "^", "-", _attack("after_edit", "encoder")),
    Line("behind it, cross-layer Jacobian", "#CC79A7", "D", "-", _attack("after_edit", "jacobian")),
    Line("soft suffix", "#E69F00", "v", "--", _attack("soft_suffix", "none")),
    Line("wrong target", "#D55E00", "x", ":", _control("wrong-target")),
    Line("random direction", "#707070", "+", ":", _control("random-direction")),
)
EPS = "eps: share of the stream's norm (suffix: of the embeddings')"
PARTS = ("residual", "other", "clamped")
PART_NAMES = {"residual": "not explained\nby the SAE", "other": "other\nlatents", "clamped": "clamped\nlatents"}


class Point(NamedTuple):
    """A cell at one budget."""

    eps: float
    share: float
    """Recovered, of the suppressed examples."""
    drift: float | None
    """Median L2 change of the protected pre-activations over all attacked examples: activations have a dead zone."""


def draw(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write every figure that the runs have rows for, as SVG and PNG; the paths.

    Raises:
        UsageError: matplotlib is missing, no rows to draw, or the folder cannot be written.
    """
    plt = _pyplot()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    written: list[Path] = []
    for defense, tasks in _attacked(runs).items():
        for name, panel, usable in _FIGURES:
            shown = {task: cells for task, cells in tasks.items() if usable(cells)}
            if shown:
                written += _figure(
                    plt, shown, panel, f"{_TITLES[name]}: {defense}", folder / f"{name}__{_file_name(defense)}"
                )
    if not written:
        raise UsageError("the runs have no attacked examples: there is nothing to draw")
    return written


def _attacked(runs: Sequence[Run]) -> dict[str, dict[str, list[MeasuredCell]]]:
    """Defense -> task -> its cells, of the defenses that were attacked."""
    found: dict[str, dict[str, list[MeasuredCell]]] = {}
    for cell in (cell for run in runs for cell in run.cells):
        found.setdefault(cell.plan.defense, {}).setdefault(cell.plan.task, []).append(cell)
    return {d: t for d, t in found.items() if any(c.plan.attacks for cells in t.values() for c in cells)}


def _figure(plt: Any, tasks: Mapping[str, list[MeasuredCell]], panel: Callable, title: str, stem: Path) -> list[Path]:
    across = min(len(tasks), 3)
    down = -(-len(tasks) // across)
    size = (max(3.4 * across + 0.6, 4.6), 3.1 * down + 0.9)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    for axis, (task, cells) in zip(axes.flat, tasks.items(), strict=False):
        panel(axis, cells)
        axis.set_title(task, fontsize=10, loc="left", fontweight="bold")
        axis.set_ylim(-0.03, 1.03)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("share that recovers")
    _legend(figure, axes)
    figure.suptitle(title, fontsize=11)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    for path in paths:
        figure.savefig(path, dpi=160)
    plt.close(figure)
    return paths


def _legend(figure: Any, axes: Any) -> None:
    """One for all panels, below them."""
    named = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if named:
        columns = 2 if axes.shape[1] == 1 else 4
        figure.legend(
            named.values(), named.keys(), loc="outside lower center", ncols=columns, fontsize=8, frameon=False
        )


def recovery(axis: Any, cells: Sequence[MeasuredCell]) -> None:
    """Recovered share over eps, a line an attack."""
    for line, points in _lines(cells):
        axis.plot([p.eps for p in points], [p.share for p in points], label=line.label, **_style(line))
    axis.set_xscale("log")
    _plain_ticks(axis, sorted({p.eps for _, points in _lines(cells) for p in points}))
    axis.set_xlabel(EPS, fontsize=7.5)


def drift(axis: Any, cells: Sequence[MeasuredCell]) -> None:
    """Recovered share against the drift of the protected latents, a point a budget."""
    for line, points in _lines(cells):
        known = [p for p in points if p.drift is not None]
        if known:
            axis.plot([p.drift for p in known], [p.share for p in known], label=line.label, **_style(line))
    axis.set_xscale("symlog", linthresh=1e-3)
    axis.set_xlim(left=-2e-4)
    axis.set_xlabel("median drift of the protected pre-activations (L2)", fontsize=7.5)


def replay(axis: Any, cells: Sequence[MeasuredCell]) -> None:
    """Of the recoveries that were split, the share that each part brings back alone, beside random vectors."""
    rows = _split_rows(cells)
    kinds = (("own norm", "recovered", "#56B4E9"), ("norm of the whole", "equal_recovered", "#0072B2"))
    for offset, (label, suffix, colour) in zip((-0.2, 0.2), kinds, strict=True):
        shares = [_share(rows, f"attr_{part}_{suffix}") for part in PARTS]
        axis.bar([i + offset for i in range(len(PARTS))], shares, width=0.38, color=colour, label=label)
    axis.axhline(_share(rows, "attr_random_recovered"), color="#D55E00", linestyle="--", label="random, same norm")
    axis.set_xticks(range(len(PARTS)), [PART_NAMES[part] for part in PARTS], fontsize=8)
    axis.set_xlabel(f"part of the perturbation that is replayed (n = {len(rows)})", fontsize=7.5)


def _split_rows(cells: Sequence[MeasuredCell]) -> list[Row]:
    rows = [row for cell in cells if cell.plan.attacks for row in cell.rows.to_pylist()]
    return [row for row in rows if row.get("attr_random_recovered") is not None]


def _share(rows: Sequence[Row], column: str) -> float:
    """Mean of what is known; an empty part brings nothing back."""
    return sum(float(row[column] or 0) for row in rows) / max(len(rows), 1)


def _lines(cells: Sequence[MeasuredCell]) -> Iterator[tuple[Line, list[Point]]]:
    for line in LINES:
        rows = [row for cell in cells if line.chosen(cell.plan) for row in cell.rows.to_pylist()]
        points = _points(rows)
        if points:
            yield line, points


def _points(rows: Sequence[Row]) -> list[Point]:
    """A point a budget that counts; where several cells share a line, the example's best of them."""
    suppressed = [row for row in rows if row["suppressed"] and row["status"] == "ok" and not row["sanity"]]
    found = []
    for eps in sorted({row["budget_eps"] for row in suppressed}):
        at = [row for row in suppressed if row["budget_eps"] == eps]
        back: dict[str, bool] = {}
        for row in at:
            back[row["example_id"]] = back.get(row["example_id"], False) or bool(row["recovered"])
        moved = [row["drift_pre_abs"] for row in at if row["drift_pre_abs"] is not None]
        found.append(Point(eps, sum(back.values()) / len(back), median(moved) if moved else None))
    return found


def _style(line: Line) -> dict[str, Any]:
    return {"color": line.colour, "marker": line.marker, "linestyle": line.dash, "linewidth": 1.5, "markersize": 4.5}


def _plain_ticks(axis: Any, budgets: Sequence[float]) -> None:
    """Budgets as they are written, as many as there is room for."""
    step = -(-len(budgets) // 6) or 1
    axis.set_xticks(budgets[::step], [f"{b:g}" for b in budgets[::step]], fontsize=8)
    axis.minorticks_off()


_FIGURES: tuple[tuple[str, Callable, Callable[[Sequence[MeasuredCell]], bool]], ...] = (
    ("recovery", recovery, lambda cells: any(True for _ in _lines(cells))),
    ("drift", drift, lambda cells: any(p.drift is not None for _, points in _lines(cells) for p in points)),
    ("replay", replay, lambda cells: bool(_split_rows(cells))),
)


_TITLES = {
    "recovery": "Recovery over the budget",
    "drift": "Recovery against drift",
    "replay": "Replayed parts of recoveries",
}


def _file_name(defense: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in defense)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("figures need matplotlib: pip install 'recoverybench[plots]'") from error
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "recoverybench", "font.size": 9})
    import matplotlib.pyplot as plt

    return plt
