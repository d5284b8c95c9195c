"""Constraints on a perturbation: what it must leave alone. Here the linear ones; ``cross_layer`` has a nonlinear one.

The perturbation itself is projected after every optimiser step. Projecting only the gradient is not enough: a step
rescaled per coordinate, as Adam's, leaves the null space again (measured: 37 % of the norm back inside the span).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from benchmark.contracts.defense import Latents


class Constraint(Protocol):
    """The set that perturbations (rows, sites, perturbed, d_model) have to stay in; zero is always in it.

    ``rows`` (rows,) says which rows of the problem the perturbations belong to, all by default: a linear set is the
    same for every row, any other is not.
    """

    def project(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """The closest perturbation in the set, or in its tangent space at zero where it is not linear."""
        ...

    def tangent(self, vector: Tensor, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """What an optimiser at ``delta`` may follow of ``vector``: all of it where ``step`` comes back exactly."""
        ...

    def step(self, delta: Tensor, move: Tensor, budget: Tensor, rows: Tensor | None = None) -> Tensor:
        """From ``delta`` in the set along ``move`` and back into the set and the ball of norm ``budget`` (rows,).

        A row that cannot come back stays where it is.
        """
        ...

    def restore(self, delta: Tensor, budget: Tensor, rows: Tensor | None = None) -> Tensor:
        """Any perturbation brought into the set and the ball; one that is there already is returned as it is."""
        ...

    def feasible(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """(rows,) bool: in the set, as far as a search can tell."""
        ...

    def violation(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """(rows,): how far outside, relative; 0 inside and for a zero perturbation."""
        ...


def within(delta: Tensor, budget: Tensor) -> Tensor:
    """``delta`` shortened to the norm ``budget`` (rows,) where it is longer."""
    norm = delta.flatten(1).norm(dim=1)
    return delta * (budget / norm.clamp(min=1e-30)).clamp(max=1.0)[:, None, None, None]


class Free:
    """Nothing is asked of the perturbation."""

    def project(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return delta

    def tangent(self, vector: Tensor, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return vector

    def step(self, delta: Tensor, move: Tensor, budget: Tensor, rows: Tensor | None = None) -> Tensor:
        return within(delta + move, budget)

    def restore(self, delta: Tensor, budget: Tensor, rows: Tensor | None = None) -> Tensor:
        return within(delta, budget)

    def feasible(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return torch.ones(delta.shape[0], dtype=torch.bool, device=delta.device)

    def violation(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return delta.new_zeros(delta.shape[0])


class EncoderNullSpace:
    """At every site, orthogonal to the encoder directions of the protected latents there; exact, without a ridge.

    The invariant is ``||A^T delta|| <= 1e-5 ||A|| ||delta||`` with A the directions (METHOD section 5).
    """

    def __init__(self, sets: Sequence[Sequence[Latents]], d_model: int) -> None:
        """``sets``: for each perturbed site, the protected feature sets there (none: free at that site)."""
        self.directions = [_directions(group, d_model) for group in sets]
        self.bases = [_orthonormal(a) for a in self.directions]
        self._placed: dict[torch.device, list[Tensor]] = {}

    def _on(self, device: torch.device) -> list[Tensor]:
        """The bases where perturbations are: moved there once, and not at every step."""
        if device not in self._placed:
            self._placed[device] = [basis.to(device) for basis in self.bases]
        return self._placed[device]

    def project(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        sites = []
        for i, q in enumerate(self._on(delta.device)):
            given = x = delta[:, i].double()
            for _ in range(2):  # the second pass removes what rounding left of the first
                x = x - (x @ q) @ q.T
            # where no direction is free, rounding must not be taken for a perturbation
            real = x.norm(dim=-1, keepdim=True) > 1e-12 * given.norm(dim=-1, keepdim=True)
            sites.append((x * real).to(delta.dtype))
        return torch.stack(sites, 1)

    def tangent(self, vector: Tensor, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return vector

    def step(self, delta: Tensor, move: Tensor, budget: Tensor, rows: Tensor | None = None) -> Tensor:
        return within(self.project(delta + move), budget)

    def restore(self, delta: Tensor, budget: Tensor, rows: Tensor | None = None) -> Tensor:
        # a subspace and a ball around zero: one after the other is the exact projection
        return within(self.project(delta), budget)

    def feasible(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        return torch.ones(delta.shape[0], dtype=torch.bool, device=delta.device)

    def violation(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        worst = delta.new_zeros(delta.shape[0])
        for i, a in enumerate(self.directions):
            if a.shape[1] == 0:
                continue
            x = delta[:, i].double()
            inside = (x @ a.to(x.device)).flatten(1).norm(dim=1)
            scale = torch.linalg.matrix_norm(a, 2).to(x.device) * x.flatten(1).norm(dim=1)
            worst = torch.maximum(worst, (inside / scale.clamp(min=torch.finfo(torch.float64).tiny)).to(worst.dtype))
        return worst


def _directions(sets: Sequence[Latents], d_model: int) -> Tensor:
    columns = [s.directions().cpu() for s in sets]
    return torch.cat(columns, 1) if columns else torch.zeros(d_model, 0, dtype=torch.float64)


def _orthonormal(columns: Tensor, tolerance: float = 1e-10) -> Tensor:
    """An orthonormal basis of the span; directions below ``tolerance`` of the largest singular value are rounding."""
    u, s, _ = torch.linalg.svd(columns / columns.norm(dim=0).clamp(min=1e-300), full_matrices=False)
    return u[:, s > tolerance * s[:1].max()] if s.numel() else u
