"""What a probe watches: how much of the model is run, and that it does not take longer than it may."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from benchmark.model.subject import Subject


class Late(BaseException):
    """The time of a probe is over. No ``Exception``: nobody whose code is probed may take it for a failure."""


@dataclass
class Meter:
    """Of some subjects: tokens times layers that were run, gradients left out."""

    work: int = 0
    until: float = inf
    """By ``time.perf_counter``; a layer that begins later raises ``Late``."""


class Spent:
    """Seconds and work of a block; of one that was left early nothing is known."""

    def __init__(self) -> None:
        self.seconds, self.work = 0.0, 0


@contextmanager
def spent(meter: Meter) -> Iterator[Spent]:
    """What the block costs."""
    found, began, work = Spent(), time.perf_counter(), meter.work
    yield found
    found.seconds, found.work = time.perf_counter() - began, meter.work - work


@contextmanager
def metered(subjects: Sequence[Subject]) -> Iterator[Meter]:
    """Watch the layers of ``subjects``. The hook is torch's global one, so that no module of a model is touched."""
    layers, meter = {id(layer) for subject in subjects for layer in subject.layers}, Meter()

    def count(module: nn.Module, args: tuple[Any, ...]) -> None:
        if id(module) not in layers:
            return
        if time.perf_counter() > meter.until:
            raise Late
        if args and isinstance(args[0], Tensor):
            meter.work += args[0].shape[0] * args[0].shape[1]

    handle = register_module_forward_pre_hook(count)
    try:
        yield meter
    finally:
        handle.remove()
