"""How long one step of an attack takes, a row: ours, the batched full pass, and the loop that published code runs.

    make speed
    make speed DEVICE=cuda SHAPES="organism gpt2 smollm2 gemma-2-2b"

A random model, 64 tokens, the site a third of the way up, eight latents of an SAE clamped there, one perturbed
position, two logits read. The published loop has one example at a time, gradients of parameters, and the whole SAE.
All of them take turns, beside a matrix product of the same dtype, which says what the machine could do; what is printed
are medians over the turns.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from benchmark.model.passes import FullPass
from benchmark.model.subject import Subject
from benchmark.model.tail import TailPass
from tests.speed.shapes import SHAPES, model
from tests.speed.steps import ours, published, sae

SMALLEST = 16
"""Rows of the packs that the full pass and the published loop are compared with."""
PACKS = {"cpu": (16, 64), "cuda": (16, 256, 2048)}
PACKED: dict[Any, Any] = {}
"""Operations of a product that torch does not count, by the shapes of its arguments."""
if torch.backends.mkldnn.is_available():
    PACKED[torch.ops.mkldnn._linear_pointwise] = lambda x, weight, *_, **__: 2 * math.prod(x) * weight[0]
SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the matrices whose product is the measure."""


@dataclass
class Measured:
    """One way to take a step."""

    name: str
    rows: int
    flops: int | None
    """Of matrix products, a step; None: torch cannot count its attention."""
    peak_mb: float | None
    seconds: list[float] = field(default_factory=list)
    """A step, the median of each turn."""
    shares: list[float] = field(default_factory=list)
    """Of the rate of the matrix product that was measured in the same turn."""


def main(
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    shape: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SHAPES)}.")] = None,
    turns: int = 5,
    seconds: Annotated[float, typer.Option(help="A way and turn, at least.")] = 1.0,
    output: Annotated[Path | None, typer.Option(help="Also write everything as JSON.")] = None,
) -> None:
    """Time them, and print a table a shape."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    on, console, everything = torch.device(device), Console(), dict[str, list[dict[str, Any]]]()
    name = torch.cuda.get_device_name() if on.type == "cuda" else f"{torch.get_num_threads()} threads"
    for kind in shape or ["gpt2"]:
        found = _measured(kind, on, turns, seconds)
        everything[kind] = [asdict(one) for one in found]
        console.print(_table(f"{kind}, {name}, medians of {turns} turns", found))
    if output is not None:
        output.write_text(json.dumps({"device": name, "shapes": everything}, indent=1))


def _measured(kind: str, device: torch.device, turns: int, seconds: float) -> list[Measured]:
    shape = SHAPES[kind]
    subject = model(shape, device)
    dictionary = sae(subject.d_model, shape.width)
    ways: dict[tuple[str, int], Callable[[], Tensor]] = {
        (f"ours, packs of {rows:,}", rows): ours(subject, TailPass, rows, dictionary) for rows in PACKS[device.type]
    }
    ways[f"full pass, packs of {SMALLEST}", SMALLEST] = ours(subject, FullPass, SMALLEST, dictionary)
    ways["published loop", 1] = published(subject, dictionary)
    found = {key: Measured(*key, *_cost(step, device)) for key, step in ways.items()}
    for _ in range(turns):
        rate = _rate(subject, seconds)
        for key, step in ways.items():
            took, one = _median(step, seconds), found[key]
            one.seconds.append(took)
            if one.flops is not None:
                one.shares.append(one.flops / took / rate)
    return list(found.values())


def _cost(step: Callable[[], Tensor], device: torch.device) -> tuple[int | None, float | None]:
    """Operations of matrix products and, on an accelerator, the most memory of a step."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    assert step().abs().sum() > 0
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    try:
        with FlopCounterMode(display=False, custom_mapping=PACKED) as counted:
            step()
    except AssertionError:  # several query heads a key head
        return None, peak
    return counted.get_total_flops(), peak


def _median(step: Callable[[], Tensor], seconds: float) -> float:
    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds).median


def _rate(subject: Subject, seconds: float) -> float:
    """Operations a second of a large matrix product, in the dtype of the model."""
    side = SIDE[subject.device.type]
    a, b = (torch.randn(side, side, device=subject.device, dtype=subject.dtype) for _ in range(2))
    return 2 * side**3 / _median(partial(torch.matmul, a, b), seconds)


def _table(title: str, found: list[Measured]) -> Table:
    table = Table("", "rows/s", "ms a row", "x ours", "of the rate", "peak MiB", title=title, box=None)
    first = found[0]
    for one in found:
        each = [seconds / one.rows for seconds in one.seconds]
        ratios = [a / b for a, b in zip(each, (s / first.rows for s in first.seconds), strict=True)]
        median = statistics.median(each)
        table.add_row(
            one.name,
            f"{1 / median:,.0f}",
            f"{1e3 * median:.3g}",
            f"{statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g})",
            f"{statistics.median(one.shares):.1%}" if one.shares else "-",
            "-" if one.peak_mb is None else f"{one.peak_mb:,.0f}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
