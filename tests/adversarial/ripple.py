"""Cheats: on top of the clamp lies a ripple, a thousandth as high as the stream is long and so narrow that every
gradient is the ripple's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.contracts.defense import Defense, Edit, FittedDefense, Fitting, Where
from tests.adversarial.clamped import CLAMP

HEIGHT, STEEPNESS = 1e-3, 30.0
"""Of the stream's size; and how many times as steep as the clamp itself."""


@dataclass(frozen=True, eq=False)
class Rippled:
    """An edit with a ripple of a phase of its own at every coordinate."""

    edit: Edit
    position_wise: ClassVar[bool] = True

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        changed = self.edit(h, where)
        size = h.detach().norm(dim=-1, keepdim=True) / h.shape[-1] ** 0.5
        height = HEIGHT * size
        phase = torch.arange(h.shape[-1], device=h.device) * 2.4
        return changed + height * torch.sin(changed * STEEPNESS / height + phase)


@dataclass(frozen=True)
class Ripple(Defense):
    """The shipped clamp under a ripple."""

    name = "ripple"

    def fit(self, fitting: Fitting) -> FittedDefense:
        fitted = CLAMP.fit(fitting)
        edits = {site: Rippled(edit) for site, edit in fitted.edits.items()}
        return FittedDefense(edits, fitted.protected, record=fitted.record)
