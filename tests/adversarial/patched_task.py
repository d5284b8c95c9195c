"""Patches what judges it: the task's class, the engine, torch, or the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

import benchmark.measure.judging as judging
from benchmark import Defense, FittedDefense, Fitting
from tasks.ioi import Ioi
from tests.adversarial.clamped import CLAMP

What = Literal["task", "engine", "code", "torch", "mode", "tokenizer"]


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("a patched function was called")


def other(task: Any, examples: Any) -> Any:
    return judging.eligible, task, examples


PATCHES: dict[What, Callable[[Fitting], Any]] = {
    "task": lambda _: setattr(Ioi, "verdict", never),
    "engine": lambda _: setattr(judging, "judge", never),
    "code": lambda _: setattr(judging.kept, "__code__", other.__code__),
    "torch": lambda _: setattr(torch, "stack", never),
    "mode": lambda _: torch.set_default_dtype(torch.float64),
    "tokenizer": lambda fitting: setattr(fitting.subject.tokenizer, "encode", never),
}


@dataclass(frozen=True)
class PatchedTask(Defense):
    """The plain clamp, and one patch that outlives its fit."""

    name = "patched-task"
    what: What = "task"

    def fit(self, fitting: Fitting) -> FittedDefense:
        fitted = CLAMP.fit(fitting)
        PATCHES[self.what](fitting)
        return fitted
