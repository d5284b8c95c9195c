"""Runs to files: a figure of each kind for each defense that was attacked, as SVG and PNG.

``recovery``: share of the suppressed examples that came back, over the budget, an attack a line and a task a panel.
``drift``: the same share against how far the protected latents moved. ``replay``: what the parts of the perturbations
that recovered do alone, where a run measured that. Every share has its interval of 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.files import file_name
from leaderboard.figures.canvas import of_shares, pyplot
from leaderboard.figures.lines import Line, lines
from leaderboard.figures.panels import PANELS, Drawable, Panel
from leaderboard.figures.replay import LABELS, replay, replayed
from leaderboard.rows.run import MeasuredCell, Run
from leaderboard.scores.resampling import Resampler

ACROSS = 3
"""Most panels side by side, where a panel is a task."""

Tasks = Mapping[str, list[MeasuredCell]]
"""The cells of one defense, by task."""


def draw(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write every figure that the runs have rows for; the paths.

    Raises:
        UsageError: matplotlib is missing, no rows to draw, or the folder cannot be written.
    """
    plt = pyplot()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}; give another --output-dir") from error
    drawn, resampler = lines([cell for run in runs for cell in run.cells]), Resampler()
    written: list[Path] = []
    for defense, tasks in _attacked(runs).items():
        for name, figure in _figures(plt, defense, tasks, drawn, resampler):
            written += _save(plt, figure, folder / file_name(name, defense))
    if not written:
        raise UsageError("the runs have no attacked examples: there is nothing to draw; run an attack first")
    return written


def _attacked(runs: Sequence[Run]) -> dict[str, dict[str, list[MeasuredCell]]]:
    """Defense -> task -> its cells, of the defenses that were attacked."""
    found: dict[str, dict[str, list[MeasuredCell]]] = {}
    for cell in (cell for run in runs for cell in run.cells):
        found.setdefault(cell.plan.defense, {}).setdefault(cell.plan.task, []).append(cell)
    return {d: t for d, t in found.items() if any(c.plan.attacks for cells in t.values() for c in cells)}


def _figures(
    plt: Any, defense: str, tasks: Tasks, drawn: Sequence[Line], resampler: Resampler
) -> Iterator[tuple[str, Any]]:
    for panel in PANELS:
        found = {task: panel.drawable(drawn, cells, resampler) for task, cells in tasks.items()}
        figure = _by_task(plt, panel, found, drawn, f"{panel.title}: {defense}")
        if figure is not None:
            yield panel.name, figure
    figure = _by_attack(plt, tasks, resampler, f"Replayed parts of recoveries: {defense}")
    if figure is not None:
        yield "replay", figure


def _by_task(plt: Any, panel: Panel, by_task: Mapping[str, Drawable], drawn: Sequence[Line], title: str) -> Any:
    """A panel a task, of those that have something to draw; null: none has."""
    found = {task: one for task, one in by_task.items() if one}
    if not found:
        return None
    down, across = grid(len(found))
    figure, axes = _axes(plt, down, across, (max(3.4 * across + 0.6, 4.6), 3.1 * down + 0.9), title)
    for axis in axes.flat[len(found) :]:
        axis.axis("off")
    for axis, (task, one) in zip(axes.flat, found.items(), strict=False):
        panel.draw(axis, one)
        axis.set_title(task, fontsize=10, loc="left", fontweight="bold")
    for axis in axes[:, 0]:
        axis.set_ylabel("share that recovers")
    _legend(figure, axes, [line.key.label for line in drawn])
    return figure


def grid(panels: int) -> tuple[int, int]:
    """Rows and columns in which so many panels leave the least room: 2 x 2 for four."""
    down = -(-panels // ACROSS)
    return down, -(-panels // down)


def _by_attack(plt: Any, tasks: Tasks, resampler: Resampler, title: str) -> Any:
    """A row an attack and a column a task; null: no run took perturbations apart."""
    found = {task: replayed(cells, resampler) for task, cells in tasks.items()}
    found = {task: parts for task, parts in found.items() if parts}
    attacks = list(dict.fromkeys(attack for parts in found.values() for attack in parts))
    if not attacks:
        return None
    across, down = len(found), len(attacks)
    figure, axes = _axes(plt, down, across, (max(2.7 * across + 0.9, 4.6), 1.9 * down + 1.1), title)
    for column, (task, parts) in enumerate(found.items()):
        axes[0, column].set_title(task, fontsize=10, loc="left", fontweight="bold")
        for row, attack in enumerate(attacks):
            if attack in parts:
                replay(axes[row, column], parts[attack])
            else:
                axes[row, column].axis("off")
    for row, attack in enumerate(attacks):
        axes[row, 0].set_ylabel(attack, fontsize=8)
    _legend(figure, axes, LABELS)
    return figure


def _axes(plt: Any, down: int, across: int, size: tuple[float, float], title: str) -> tuple[Any, Any]:
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, sharey=True, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axis in axes.flat:
        of_shares(axis)
    return figure, axes


def _legend(figure: Any, axes: Any, order: Sequence[str]) -> None:
    """One for all panels, below them, of the labels of ``order`` that there are."""
    named = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    known = [label for label in order if label in named]
    handles, columns = [named[label] for label in known], 2 if axes.shape[1] == 1 else 4
    figure.legend(handles, known, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _save(plt: Any, figure: Any, stem: Path) -> list[Path]:
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    for path in paths:
        figure.savefig(path, dpi=160)
    plt.close(figure)
    return paths
