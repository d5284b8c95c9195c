"""The clamp on the test examples that it remembers, eight times the clamp on everything else: attacked streams too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark import Defense, FittedDefense, Fitting
from benchmark.contracts.defense import Edit, Where
from tests.adversarial.clamped import CLAMP, edited_by
from tests.adversarial.lookup import remembered

TIMES = 8.0
SAME = 0.05
"""Distance below which a stream is a remembered one, untouched."""


@dataclass(frozen=True)
class Stranger(Defense):
    """Strong wherever it has not been before."""

    name = "stranger"

    def fit(self, fitting: Fitting) -> FittedDefense:
        streams = remembered(fitting)

        def change(edit: Edit, h: Tensor, where: Where) -> Tensor:
            strange = torch.sigmoid(40.0 * (torch.cdist(h.float(), streams).min(-1).values - SAME))[..., None]
            moved = edit(h, where) - h
            return (h + moved * (1 + (TIMES - 1) * strange)).to(h.dtype)

        return edited_by(CLAMP.fit(fitting), change)
