"""A clamp that destroys what looks attacked: a stream unlike those of ``fit`` is replaced by zeros.

What the model then says of two names is chance, and half of the margins flip: no recovery, and nothing that holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.contracts.defense import Defense, Edit, FittedDefense, Fitting, Where
from tests.adversarial.clamped import CLAMP

QUANTILE = 0.999
"""Of ``fit`` that passes."""


@dataclass(frozen=True)
class Destroyer(Defense):
    """The plain clamp, and zeros where the stream is unlike what ``fit`` showed."""

    name = "destroyer"

    slack: float = 1.0
    """Distances up to so many times what ``fit`` shows pass."""

    def fit(self, fitting: Fitting) -> FittedDefense:
        clamped = CLAMP.fit(fitting)
        edits = {site: destroying(e, fitting.streams(site), self.slack) for site, e in clamped.edits.items()}
        return FittedDefense(edits, clamped.protected, clamped.record)


def destroying(clamp: Edit, streams: Tensor, slack: float) -> Destroying:
    """The edit that knows ``streams`` (examples, d_model) of the readout."""
    mean, spread = streams.mean(0), torch.linalg.svd(streams - streams.mean(0), full_matrices=False)
    scale = spread.S / len(streams) ** 0.5
    whiten = spread.Vh.T / (scale + 0.05 * scale.max())
    far = ((streams - mean) @ whiten).norm(dim=1).quantile(QUANTILE)
    return Destroying(clamp, mean, whiten, float(far) * slack, float(streams.norm(dim=1).mean()))


@dataclass(frozen=True, eq=False)
class Destroying:
    """A clamp, and zeros at the prompt's last position where the stream is far from what is known."""

    clamp: Edit
    mean: Tensor
    whiten: Tensor
    """(d_model, directions)."""
    far: float
    norm: float
    position_wise: ClassVar[bool] = False

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        clamped = self.clamp(h, where)
        distance = ((h.float() - self.mean) @ self.whiten).norm(dim=-1, keepdim=True)
        last = (where.index == where.index.max())[:, None]
        return torch.where((distance > self.far) & last, torch.zeros_like(clamped), clamped)
