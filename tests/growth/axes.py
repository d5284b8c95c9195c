"""What is made larger, and what an evaluation costs then."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.benchmark import Timer
from transformers import AutoModelForCausalLM, LlamaConfig

from attacks.recovery import Recovery
from benchmark.measure.group import Group
from benchmark.model.subject import Subject
from benchmark.model.tail import TailPass
from benchmark.run.cell import run_cell
from benchmark.run.groups import groups
from benchmark.run.plan import Cell
from benchmark.run.prepare import prepare
from benchmark.run.request import Request
from benchmark.search.pack_size import PackSize
from tests.speed.steps import Step, mixed, ours, sae

WIDTH, LAYERS, ROWS, LATENTS = 256, 6, 64, 4096
"""Of the random model, the pack and the SAE, where something else grows."""


class Point(NamedTuple):
    """What something costs at one size."""

    size: float
    seconds: float
    memory_mb: float | None = None
    """Of a step: what it keeps for its gradient."""
    backwards: int | None = None
    """Passes of all rows."""


class Axis(NamedTuple):
    """Something that grows."""

    name: str
    most: float
    """Exponent of the cost that the work itself asks for; above it something grows faster than it must."""
    measure: Callable[[], Iterator[Point]]


def axes(device: torch.device, budget: int) -> Sequence[Axis]:
    """All of them; ``budget``: largest number of parameters of a model."""

    def step(name: str, most: float, sizes: Sequence[int], make: Callable[[int], tuple[float, Step]]) -> Axis:
        def measure() -> Iterator[Point]:
            made = [make(size) for size in sizes]
            for (x, taken), seconds in zip(made, _medians([one for _, one in made]), strict=True):
                yield Point(x, seconds, _kept_mb(taken))

        return Axis(name, most, measure)

    def small(layers: int = LAYERS, width: int = WIDTH) -> Subject:
        return _model(width, layers, device)

    def latents(count: int, **changes: object) -> Step:
        return ours(small(), TailPass, ROWS, replace(sae(WIDTH, count), **changes))

    def lengths(count: int) -> Step:
        return mixed(small(), ROWS, sae(WIDTH, LATENTS), count, together=True)

    def model(width: int) -> tuple[float, Step]:
        made = small(SHAPES[width], width)
        return sum(p.numel() for p in made.model.parameters()), ours(made, TailPass, 16, sae(width, LATENTS))

    widths = [width for width in SHAPES if 4 * SHAPES[width] * 4 * width**2 <= budget]
    return (
        step(
            "rows of a pack", 1, (16, 32, 64, 128, 256), lambda n: (n, ours(small(), TailPass, n, sae(WIDTH, LATENTS)))
        ),
        step("lengths among 64 prompts", 0, (1, 4, 16, 32), lambda n: (n, lengths(n))),
        step("layers", 1, (6, 12, 24, 48), lambda n: (n, ours(small(n), TailPass, ROWS, sae(WIDTH, LATENTS)))),
        step(
            "tokens of a prompt",
            1,
            (32, 64, 128, 256, 512),
            lambda n: (n, ours(small(), TailPass, ROWS, sae(WIDTH, LATENTS), n)),
        ),
        step("latents of an SAE", 0.03, (2**14, 2**16, 2**18, 2**20), lambda n: (n, latents(n))),
        step("latents of a top-k SAE", 1, (2**12, 2**14, 2**16), lambda n: (n, latents(n, architecture="topk", k=32))),
        step("parameters of a model", 1, widths, model),
        Axis("examples", 1, lambda: _examples(device)),
        Axis("budgets", 1, lambda: _budgets(device)),
        Axis("workers", 0, lambda: _workers(device)),
    )


SHAPES = {192: 6, 384: 8, 768: 12, 1024: 24, 2048: 24}
"""Width of a model's stream -> its layers: 3 million parameters to 1.6 billion."""


def _model(width: int, layers: int, device: torch.device) -> Subject:
    """A random model whose layers have 16 width^2 parameters, its tokenizer an empty one."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        tie_word_embeddings=True,
    )
    with device:
        made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return Subject(made, SimpleNamespace(bos_token_id=None, pad_token_id=None), "random")


def _medians(steps: Sequence[Step], turns: int = 5) -> list[float]:
    """Seconds of each step, which take turns: what else the machine does meets all of them."""
    took: list[list[float]] = [[] for _ in steps]
    for turn in range(turns + 1):
        for found, step in zip(took, steps, strict=True):
            timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
            seconds = timer.blocked_autorange(min_run_time=0.3).median
            if turn:  # the first one warms up
                found.append(seconds)
    return [statistics.median(found) for found in took]


def _kept_mb(step: Step) -> float:
    """What a step keeps for its gradient, parameters of the model among it."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if not x.is_leaf or x.requires_grad:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        step()
    return sum(kept.values()) / 2**20


@cache
def _organism(device: torch.device) -> Group:
    """The default clamp on `ioi` of the embedded suite, nothing of which is left out."""
    request = Request(defense=("sae-clamp",), tasks=("ioi",), controls=False, utility=False, device=str(device))
    ((_, group),) = groups(prepare(request))
    return group


def _cell(group: Group, budgets: Sequence[float]) -> Point:
    """The attack of the suite, at these budgets, on all that is suppressed."""
    how = Recovery()
    cell = Cell("growth", "ioi", "sae-clamp", how, tuple(budgets))
    took = list[float]()
    for _ in range(3):
        began = time.perf_counter()
        rows = run_cell(group, cell, PackSize(256)).rows
        took.append(time.perf_counter() - began)
    passes = sum(row.cost.backwards for row in rows if row.cost is not None)
    return Point(0, statistics.median(took), None, passes)


def _examples(device: torch.device) -> Iterator[Point]:
    group = _organism(device)
    some = group.eligible.nonzero()[:, 0]
    for count in (12, 24, 48, 96):
        kept = torch.zeros_like(group.eligible)
        kept[some[:count]] = True
        part = replace(group, eligible=kept)
        yield _cell(part, (0.02, 0.05, 0.1, 0.2))._replace(size=len(part.attacked))


def _budgets(device: torch.device) -> Iterator[Point]:
    group = _organism(device)
    for count in (2, 4, 8, 16):
        yield _cell(group, torch.logspace(-1.7, -0.7, count).tolist())._replace(size=count)


def _workers(device: torch.device) -> Iterator[Point]:
    """A whole run, on as many cores as there are, shared by its workers."""
    most = torch.cuda.device_count() if device.type == "cuda" else len(os.sched_getaffinity(0))
    asked = "evaluate -d sae-clamp -d leace --suite smoke --no-utility --no-controls --limit 40".split()
    for count in [n for n in (1, 2, 4, 8) if n <= most]:
        with tempfile.TemporaryDirectory() as folder:
            bench = str(Path(sys.executable).with_name("bench"))
            command = [bench, *asked, "--workers", str(count), "-o", str(Path(folder, "run"))]
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            yield Point(count, time.perf_counter() - began)
