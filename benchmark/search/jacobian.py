"""Jacobians row by row, and what is left of a vector without their row space (METHOD section 5).

Rows are independent: values (rows, m) depend on a point (rows, ...) of n coordinates each, row by row. One backward
pass with the same weights in every row therefore gives that weighted sum of every row's Jacobian rows at once.
The passes are in the model's precision, the linear algebra is fp64 and every tolerance is relative: a ridge or an
absolute threshold would leak where latents are small, and invent directions where they are equal.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

RANK = 1e-6
"""Singular values below this share of the largest are rounding of an fp32 pass: no direction of their own."""
INVERSE = 1e-3
"""And below this one they are not divided by: a correction along them would be long and mostly rounding."""
DEAD = 1e-12
"""A Jacobian row below this share of the largest one is zero."""


class RowSpace(NamedTuple):
    """Row spaces of some Jacobians J, each known by r weighted sums of its rows: ``mix @ J``.

    With the identity as ``mix`` that is J itself; fewer, random sums span a smaller space.
    """

    mix: Tensor
    """(r, m), shared by all rows."""
    jacobian: Tensor
    """``mix @ J`` (rows, r, n); zero where a row does without a sum."""
    basis: Tensor
    """(rows, n, min(r, n)), fp64: orthonormal columns, and zero ones beyond the rank."""
    inverse: Tensor
    """(rows, min(r, n), r), fp64: ``basis @ inverse`` is the relative pseudo-inverse of ``mix @ J``."""

    def without(self, vector: Tensor) -> Tensor:
        """``vector`` (rows, n) less its part in the row space, fp64; zero where no direction is left."""
        given = x = vector.double()
        for _ in range(2):  # the second pass removes what rounding left of the first
            x = x - (self.basis @ (self.basis.mT @ x[..., None]))[..., 0]
        return x * (x.norm(dim=1) > 1e-12 * given.norm(dim=1))[:, None]

    def solve(self, change: Tensor) -> Tensor:
        """The shortest move (rows, n) that changes the values by ``change`` (rows, m), to first order; fp64."""
        mixed = change.double() @ self.mix.double().T
        return (self.basis @ (self.inverse @ mixed[..., None]))[..., 0]

    def rows(self, index: Tensor) -> RowSpace:
        """The same of the rows ``index``."""
        return RowSpace(self.mix, self.jacobian[index], self.basis[index], self.inverse[index])


def row_space(mix: Tensor, jacobian: Tensor) -> RowSpace:
    """Factorise ``jacobian`` = ``mix @ J`` (rows, r, n), all rows in one batch.

    Its rows are brought to length 1 first, so that the rank does not depend on the scale of a latent.
    """
    j = jacobian.double()
    length = j.norm(dim=2)
    real = length > DEAD * length.amax(1, keepdim=True)
    weight = torch.where(real, 1 / length.clamp(min=torch.finfo(j.dtype).tiny), 0.0)
    q, triangle = torch.linalg.qr((j * weight[..., None]).mT)
    u, s, v = torch.linalg.svd(triangle, full_matrices=False)
    kept, divided = s > RANK * s[:, :1], s > INVERSE * s[:, :1]
    reciprocal = torch.where(divided, 1 / s.clamp(min=torch.finfo(j.dtype).tiny), 0.0)
    return RowSpace(mix, jacobian, (q @ u) * kept[:, None], reciprocal[..., None] * v * weight[:, None])


def weighted_rows(values: Tensor, at: Tensor, mix: Tensor, chunk: int = 32) -> Tensor:
    """``mix @ J`` of every row, (rows, r, n), with J the Jacobian of ``values`` (rows, m) at ``at`` (rows, ...).

    Args:
        values: computed from ``at``, with its graph; a row depends on the same row of ``at`` only.
        mix: (r, m), the weights of each sum; the identity gives J.
        chunk: backward passes that are batched into one; memory grows with it.
    """
    found = at.new_zeros(at.shape[0], len(mix), at[0].numel())
    if not values.requires_grad:
        return found
    batched = True
    for first in range(0, len(mix), chunk):
        weights = mix[first : first + chunk].to(values.dtype)[:, None].expand(-1, len(values), -1)
        part = _batched(values, at, weights) if batched else None
        if part is None:  # an operation whose backward pass cannot be batched
            batched = False
            part = torch.stack([torch.autograd.grad(values, at, w, retain_graph=True)[0] for w in weights])
        found[:, first : first + chunk] = part.flatten(2).transpose(0, 1)
    return found


def _batched(values: Tensor, at: Tensor, weights: Tensor) -> Tensor | None:
    """One backward pass for all ``weights`` (sums, rows, m); None where the graph does not allow it."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            return torch.autograd.grad(values, at, weights, retain_graph=True, is_grads_batched=True)[0]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return None
