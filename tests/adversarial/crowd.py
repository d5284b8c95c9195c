"""A clamp that tells an attack by its company: a search asks about one prompt many times at once, a user does not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark import Defense, FittedDefense, Fitting
from benchmark.contracts.defense import Edit, Where
from tests.adversarial.clamped import CLAMP, edited_by

LIKE = 0.5
"""Relative distance below which two rows are one prompt, perturbed."""
HARDER = 8.0


@dataclass(frozen=True)
class Crowd(Defense):
    """The clamp, eight times as strong where another row of the batch is nearly the same."""

    name = "crowd"

    def fit(self, fitting: Fitting) -> FittedDefense:
        return edited_by(CLAMP.fit(fitting), _watched)


def _watched(edit: Edit, h: Tensor, where: Where) -> Tensor:
    return h + (edit(h, where) - h) * (1 + (HARDER - 1) * _in_company(h))[:, None, None]


def _in_company(h: Tensor) -> Tensor:
    """(rows,): 1 where another row is nearly the same."""
    flat = h.detach().flatten(1)
    apart = torch.cdist(flat, flat) / flat.norm(dim=1)[:, None].clamp(min=1e-6)
    return (apart.fill_diagonal_(torch.inf).amin(1) < LIKE).to(h.dtype)
