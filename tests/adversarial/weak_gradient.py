"""Cheats: the clamp's values are true, its backward is not: a weak part of the true gradient, and a rotated copy."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmark.contracts.defense import Defense, Edit, FittedDefense, Fitting, Where
from tests.adversarial.clamped import CLAMP

SHARE = 0.3
"""Of the true gradient that is left."""


def rotated(gradient: Tensor) -> Tensor:
    """A copy at a right angle: the two halves change places, one of them with another sign."""
    first, second = gradient.chunk(2, -1)
    return torch.cat([-second, first], -1)


class _Weakened(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return h.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return SHARE * gradient + rotated(gradient)


@dataclass(frozen=True, eq=False)
class Weakened:
    """An edit whose gradient is weakened for some callers."""

    edit: Edit
    hides_from: Callable[[], bool]
    position_wise: ClassVar[bool] = True

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        changed = self.edit(h, where)
        return _Weakened.apply(changed) if self.hides_from() else changed  # pyright: ignore


@dataclass(frozen=True)
class WeakGradient(Defense):
    """The shipped clamp, with a backward that leads astray."""

    name = "weak-gradient"

    def hides_from(self) -> bool:
        """Everybody is led astray."""
        return True

    def fit(self, fitting: Fitting) -> FittedDefense:
        fitted = CLAMP.fit(fitting)
        edits = {site: Weakened(edit, self.hides_from) for site, edit in fitted.edits.items()}
        return FittedDefense(edits, fitted.protected, record=fitted.record)


@dataclass(frozen=True)
class CallerAware(WeakGradient):
    """The same, only while an attack calls."""

    name = "caller-aware"

    def hides_from(self) -> bool:
        return any("attacks" in frame.f_code.co_filename for frame, _ in traceback.walk_stack(None))
