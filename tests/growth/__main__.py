"""How what an evaluation costs grows with its size, and whether anything grows faster than it must.

    make growth
    make growth DEVICE=cuda

A step of an attack on a random model (64 rows of 64 tokens, 6 layers of width 256, a clamp of eight of 4,096 latents,
one of these made larger), cells of the embedded suite, and whole runs. The exponent is fitted over the upper half of
the sizes, where what is constant counts least.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import torch
import typer
from matplotlib.ticker import EngFormatter, NullLocator
from rich.console import Console
from rich.table import Table

from tests.growth.axes import Axis, Point, axes

SLACK = 0.1
"""Of an exponent, for the noise of a shared machine."""


def main(
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    largest: Annotated[float, typer.Option(help="Parameters of the largest model.")] = 5e8,
    only: Annotated[list[str] | None, typer.Option(help="Name of an axis. Repeatable; default: all.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for growth.png and growth.json.")] = Path("build/growth"),
) -> None:
    """Measure, print a table, and draw it."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    console, found = Console(width=140), dict[str, tuple[Axis, list[Point]]]()
    for axis in axes(torch.device(device), int(largest)):
        if only is None or axis.name in only:
            found[axis.name] = (axis, [*axis.measure()])
            console.print(_line(*found[axis.name]), highlight=False)
    console.print(_table(found))
    output.mkdir(parents=True, exist_ok=True)
    plain = {name: [point._asdict() for point in points] for name, (_, points) in found.items()}
    (output / "growth.json").write_text(json.dumps(plain, indent=1))
    _draw(found, output / "growth.png")
    console.print(f"drawn: {output / 'growth.png'}")


def exponent(points: list[Point]) -> float:
    """Slope of log cost over log size by least squares, over the upper half of the sizes (two of them at least)."""
    upper = points[min(len(points) // 2, len(points) - 2) :]
    x, y = [math.log(one.size) for one in upper], [math.log(one.seconds) for one in upper]
    middle, level = sum(x) / len(x), sum(y) / len(y)
    return sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)


def _line(axis: Axis, points: list[Point]) -> str:
    each = ", ".join(f"{one.size:,.0f}: {one.seconds:.3g} s" for one in points)
    return f"{axis.name}: {each}"


def _table(found: dict[str, tuple[Axis, list[Point]]]) -> Table:
    table = Table(
        "grows", "from", "to", "cost", "exponent", "must be", "kept for the gradient", "backward passes", box=None
    )
    for name, (axis, points) in found.items():
        if len(points) < 2:
            continue
        first, last, slope = points[0], points[-1], exponent(points)
        table.add_row(
            name,
            f"{first.size:,.0f}",
            f"{last.size:,.0f}",
            f"x {last.seconds / first.seconds:.3g}",
            f"{slope:.2f}{' (faster than it must)' if slope > axis.most + SLACK else ''}",
            f"{axis.most:g}",
            f"x {last.memory_mb / first.memory_mb:.3g}" if last.memory_mb and first.memory_mb else "-",
            f"x {last.backwards / first.backwards:.3g}" if last.backwards and first.backwards else "-",
        )
    return table


def _draw(found: dict[str, tuple[Axis, list[Point]]], file: Path) -> None:
    columns = 3
    lines = -(-len(found) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(4 * columns, 3 * lines), squeeze=False, layout="constrained")
    for place in grid.flat[len(found) :]:
        place.set_visible(False)
    for place, (axis, points) in zip(grid.flat, found.values(), strict=False):
        sizes, seconds = [one.size for one in points], [one.seconds for one in points]
        place.loglog(sizes, seconds, "o-")
        place.loglog(sizes, [seconds[-1] * (size / sizes[-1]) ** axis.most for size in sizes], ":", color="grey")
        # two decades at least: what does not grow looks flat
        middle = math.sqrt(min(seconds) * max(seconds))
        place.set_ylim(min(min(seconds) / 2, middle / 10), max(2 * max(seconds), 10 * middle))
        place.xaxis.set_minor_locator(NullLocator())
        place.set_xticks(sizes, [EngFormatter(sep="", places=0)(size) for size in sizes])
        place.set(
            xlabel=axis.name, ylabel="seconds", title=f"exponent {exponent(points):.2f}" if len(points) > 1 else ""
        )
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    typer.run(main)
