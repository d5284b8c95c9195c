"""The smallest rescaling of a perturbation that still reaches the goal.

A search stops somewhere inside its budget; how far inside says little about what was needed. Along the ray through the
perturbation the least that is enough is found by halving. For a linear readout and a perturbation along its gradient
that is the closed-form optimum, margin / ||projected direction||.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Smallest(NamedTuple):
    """The smallest rescaling of each row's perturbation that was seen to reach the goal."""

    delta: Tensor
    """(rows, sites, perturbed, d_model); where the whole perturbation does not reach, that one."""
    share: Tensor
    """(rows,) length relative to the given perturbation, in (0, 1]; NaN where that one does not reach."""
    reached: Tensor
    """(rows,) bool: the given perturbation reaches the goal, and ``delta`` does."""


def minimal_norm(delta: Tensor, reaches: Callable[[Tensor, Tensor], Tensor], halvings: int = 10) -> Smallest:
    """Bisect every row's scale, after halving it until it is not enough; relative error 2^-halvings.

    What comes back was verified. Success is taken to be monotone along the ray; where it is not, a smaller scale may
    be missed. Scaling leaves a linear constraint intact and no other: ``reaches`` has to ask for feasibility too then.

    Args:
        delta: perturbations (rows, sites, perturbed, d_model).
        reaches: (perturbations, rows (k,)) -> (k,) bool, the goal is reached; at most ``2 * halvings + 1`` calls,
            rows that need no more left out.
    """
    every = torch.arange(len(delta), device=delta.device)
    reached = reaches(delta, every).clone()
    high = torch.where(reached, 1.0, torch.nan).to(delta.dtype)
    low = torch.zeros_like(high)
    left = reached.clone()
    for _ in range(halvings):
        rows = left.nonzero()[:, 0]
        if not len(rows):
            break
        enough = _try(delta, high / 2, reaches, rows)
        high[rows[enough]] /= 2
        low[rows[~enough]] = high[rows[~enough]] / 2
        left[rows[~enough]] = False
    rows = reached.nonzero()[:, 0]
    for _ in range(halvings if len(rows) else 0):
        middle = (low + high) / 2
        enough = _try(delta, middle, reaches, rows)
        high[rows[enough]] = middle[rows[enough]]
        low[rows[~enough]] = middle[rows[~enough]]
    return Smallest(_scaled(delta, high.nan_to_num(1.0)), high, reached)


def _try(delta: Tensor, share: Tensor, reaches: Callable[[Tensor, Tensor], Tensor], rows: Tensor) -> Tensor:
    return reaches(_scaled(delta[rows], share[rows]), rows)


def _scaled(delta: Tensor, share: Tensor) -> Tensor:
    return delta * share[:, None, None, None]
