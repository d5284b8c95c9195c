"""The study's projections, which leak: for the protocol ``paper`` and the audit, never for a score.

Each wraps the exact constraint, which goes on measuring the violation: what leaks is flagged. Gradients are projected,
perturbations never.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.search.constraint import Constraint, EncoderNullSpace, Free
from benchmark.search.cross_layer import CrossLayer, Look
from benchmark.search.draws import normal
from benchmark.search.jacobian import weighted_rows

RIDGE = 1e-4
"""Added to ``A^T A``, whatever the scale of the columns."""
PROBES = 8
"""Random sums of Jacobian rows in the sketch; the drift's own direction is a ninth."""
SMALL = 1e-7
"""Gram-Schmidt drops what is left below this absolute norm."""


class Leaky(Free):
    """Perturbations are only shortened; how far they leak is measured by the exact constraint."""

    exact: Constraint

    def violation(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return self.exact.violation(delta, rows)


class RidgeGradient(Leaky):
    """Gradients lose ``A (A^T A + ridge)^-1 A^T g`` at every site; perturbations keep what an optimiser makes of it."""

    def __init__(self, exact: EncoderNullSpace, ridge: float = RIDGE) -> None:
        self.exact: EncoderNullSpace = exact
        self._inverses = [_inverse(a, ridge) for a in exact.directions]

    def tangent(self, vector: Tensor, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        sites = []
        for i, (a, inverse) in enumerate(zip(self.exact.directions, self._inverses, strict=True)):
            g, columns = vector[:, i].double(), a.to(vector.device)
            sites.append((g - g @ columns @ inverse.to(vector.device) @ columns.T).to(vector.dtype))
        return torch.stack(sites, 1)

    def project(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return self.tangent(delta, delta, rows)


def _inverse(a: Tensor, ridge: float) -> Tensor:
    return torch.linalg.inv(a.T @ a + ridge * torch.eye(a.shape[1], dtype=a.dtype))


class SketchedGradient(Leaky):
    """Gradients lose their part in the span of at most nine weighted sums of Jacobian rows, new ones at every step."""

    def __init__(self, exact: CrossLayer) -> None:
        self.exact: CrossLayer = exact
        self._step = 0

    def tangent(self, vector: Tensor, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        index = torch.arange(len(delta), device=delta.device) if rows is None else rows
        self._step += 1
        basis = sketch(self.exact.look, delta, index, self.exact.drift(delta, index).residual, seed=self._step)
        return without(vector.flatten(1), basis).to(vector.dtype).view_as(vector)

    def project(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return self.tangent(delta, torch.zeros_like(delta), rows)


def sketch(look: Look, delta: Tensor, rows: Tensor, residual: Tensor, seed: int, probes: int = PROBES) -> Tensor:
    """Gram-Schmidt of the drift's direction and random sums of Jacobian rows, (rows, probes + 1, n), fp64.

    The study's: one pass, and an absolute threshold; a direction below it is zero here.

    Args:
        residual: (rows, m), how far the watched latents have moved; zero at the start.
    """
    at = delta.detach().requires_grad_()
    with torch.enable_grad():
        values = look(at, rows).pre
    mix = normal(f"sketch|{seed}", (probes, values.shape[1])).to(delta.device)
    own = residual / residual.norm(dim=1, keepdim=True).clamp(min=1e-30)
    first = torch.autograd.grad((values * own.to(values.dtype)).sum(), at, retain_graph=True)[0].flatten(1)
    vectors = torch.cat([first[:, None], weighted_rows(values, at, mix)], 1).double()
    basis: list[Tensor] = []
    for q in vectors.unbind(1):
        for b in basis:
            q = q - (q * b).sum(1, keepdim=True) * b
        size = q.norm(dim=1, keepdim=True)
        basis.append(torch.where(size > SMALL, q / size.clamp(min=1e-300), 0.0))
    return torch.stack(basis, 1)


def without(vector: Tensor, basis: Tensor) -> Tensor:
    """``vector`` (rows, n) less its part along each of ``basis`` (rows, k, n), one after the other; fp64."""
    left = vector.double()
    for b in basis.unbind(1):
        left = left - (left * b).sum(1, keepdim=True) * b
    return left
