"""The cross-layer constraint: no protected latent moves, at any site or position that a perturbation reaches.

A null space at one layer does nothing for the protected latents of later ones, and those depend on the perturbation
through everything in between. So directions are taken from the Jacobian of all protected pre-activations (inactive
latents have one too), and what a finite step leaves is taken back by Gauss-Newton corrections (METHOD section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.defense import Codes, Latents
from benchmark.errors import UsageError
from benchmark.model.passes import Pass
from benchmark.search.constraint import within
from benchmark.search.jacobian import RowSpace, row_space, weighted_rows

Look = Callable[[Tensor, Tensor], Codes]
"""(delta (rows, sites, perturbed, d_model), rows (rows,)) -> codes (rows, m), differentiable, row by row."""

Split = Callable[[int, Callable[[slice], None]], None]
"""Do some work on consecutive slices of so many rows; ``PackSize.split``."""

LEAK = 1e-2
"""Largest ||J g_projected|| / ||J g||, row by row (METHOD section 5)."""
ROUNDING = 1e-5
"""A leak below this share of ||J|| ||g|| is rounding: a vector that was tangent already has nothing to lose."""
SPARE = 0.95
"""A search uses this share of the tolerance, so that the clean re-measurement finds no more than all of it."""
SKETCH, PROBES = 128, 16
"""Random sums of Jacobian rows to begin with where there are too many rows, and further ones to verify them by."""
CORRECTIONS, HALVINGS, ROUNDS = 5, 4, 3
"""Gauss-Newton steps, halvings of a step, and turns of correcting and shortening to the budget, at most."""


def watch(run: Pass, sets: Sequence[Latents], example: Tensor) -> Look:
    """All latents of ``sets`` at every position from the first perturbed one on, as one vector a row.

    Args:
        example: index of the example, in the pack of ``run``, of each row of the problem.

    Raises:
        UsageError: no set to watch.
    """
    if not sets:
        raise UsageError(
            "no protected features at or above the attacked sites: there is nothing to hold; leave the constraint out"
        )
    observe = frozenset(s.site.boundary for s in sets)

    def look(delta: Tensor, rows: Tensor) -> Codes:
        stream = run(delta, example[rows], observe).stream
        codes = [s.encode(stream[s.site.boundary]) for s in sets]
        return Codes(*(torch.cat([part.flatten(1) for part in parts], 1) for parts in zip(*codes, strict=True)))

    return look


class Drift(NamedTuple):
    """How far the watched latents are from the unperturbed defended model's, each with one entry a row."""

    act: Tensor
    """(rows,) L2 in activations."""
    pre: Tensor
    """(rows,) L2 in pre-activations."""
    residual: Tensor
    """(rows, m): change of each pre-activation."""


class _Local(NamedTuple):
    """What is known around some perturbations."""

    space: RowSpace
    probes: Tensor
    """(rows, probes, n): J itself, or sums of its rows that the space was not made from."""

    def rows(self, index: Tensor) -> _Local:
        return _Local(self.space.rows(index), self.probes[index])

    def leaks(self, before: Tensor, after: Tensor, share: float) -> Tensor:
        """(rows,) bool: ``after`` moves the watched latents by more than ``share`` of what ``before`` does."""
        probes = self.probes.double()
        old, new = (torch.linalg.vector_norm(probes @ v.double()[..., None], dim=(1, 2)) for v in (before, after))
        slack = ROUNDING * probes.flatten(1).norm(dim=1) * before.double().norm(dim=1)
        return ~(new <= torch.maximum(share * old, slack))  # a number that is none is a leak


class CrossLayer:
    """Perturbations under which the protected activations drift by at most ``tau``.

    The drift is ``||z - z_ref|| / max(||z_ref||, floor)`` with z all watched activations of a row: relative to the
    defended norm, and where that is near zero to the floor.

    Up to ``exact`` watched latents the Jacobian has all its rows. Beyond, random sums of them are taken until fresh
    sums confirm the projection, row by row: twice as many each time, in the end as many as there are rows.
    """

    def __init__(
        self, look: Look, zeros: Tensor, *, tau: float, floor: float, split: Split | None = None, exact: int = 384
    ) -> None:
        """``zeros``: the perturbation that changes nothing, of all rows of the problem; ``floor``: an L2 norm."""
        self.look = look
        self._split = split or (lambda total, work: work(slice(0, total)))
        rows = zeros.shape[0]
        self._shape, self._device = zeros.shape[1:], zeros.device
        self.forwards = torch.zeros(rows, dtype=torch.long, device=zeros.device)
        """Passes spent on each row of the problem; those of the search itself are not in it."""
        self.backwards = torch.zeros_like(self.forwards)
        self.loose = torch.zeros(rows, dtype=torch.bool, device=zeros.device)
        """Rows that met a Jacobian which is not finite or could not be confirmed: they do not move there."""
        self._unperturbed = self._codes(zeros, torch.arange(rows, device=zeros.device))
        self.allowed = tau * self._unperturbed.act.double().norm(dim=1).clamp(min=floor)
        """(rows,) largest L2 drift of the activations."""
        self._allowed_pre = tau * self._unperturbed.pre.double().norm(dim=1).clamp(min=floor)
        watched = self._unperturbed.pre.shape[1]
        self._mix, self._probes = _mixes(watched, watched <= exact, zeros.device)
        self._sums = torch.full_like(self.forwards, watched if self._probes is None else min(SKETCH, watched))
        self._known: tuple[Tensor, Tensor, _Local] | None = None

    def project(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """The part of ``delta`` that moves no protected latent to first order, seen from no perturbation."""
        return self.tangent(delta, torch.zeros_like(delta), rows)

    def tangent(self, vector: Tensor, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """``vector`` without its part in the row space of the Jacobian at ``delta``."""
        index, flat = self._all(rows), vector.flatten(1)
        share = LEAK if self._probes is None else LEAK / 2  # sixteen probes may be off by a factor of two
        while True:
            local = self._around(delta, index)
            left = local.space.without(flat)
            leaking = local.leaks(flat, left, share)
            growing = leaking & (self._sums[index] < len(self._mix)) & local.probes.flatten(1).isfinite().all(1)
            if not growing.any():
                break
            self._sums[index[growing]] = (2 * self._sums[index[growing]]).clamp(max=len(self._mix))
            self._known = None
        self.loose[index] |= leaking
        return left.masked_fill(leaking[:, None], 0.0).to(vector.dtype).view_as(vector)

    def step(self, delta: Tensor, move: Tensor, budget: Tensor, rows: Tensor | None = None) -> Tensor:
        """See ``Constraint``; a move after which a row cannot be corrected is halved."""
        index, reached, move = self._all(rows), delta.clone(), move.clone()
        known = self._recall(delta, index)
        left = torch.arange(len(index), device=delta.device)
        for _ in range(HALVINGS):
            at = within(delta[left] + move[left], budget[left])
            at, inside = self._return(at, budget[left], index[left], None if known is None else known.rows(left))
            reached[left[inside]] = at[inside]
            left = left[~inside]
            if not len(left):
                break
            move[left] *= 0.5
        return reached

    def restore(self, delta: Tensor, budget: Tensor, rows: Tensor | None = None) -> Tensor:
        """See ``Constraint``; a row that cannot be corrected is halved toward zero, and zero in the end."""
        return self.step(torch.zeros_like(delta), delta, budget, rows)

    def feasible(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """(rows,) bool: the activations drift by at most ``SPARE`` of what is allowed."""
        index = self._all(rows)
        return self.drift(delta, index).act <= SPARE * self.allowed[index]

    def violation(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """(rows,): drift beyond the allowed one, as a share of it."""
        index = self._all(rows)
        return (self.drift(delta, index).act / self.allowed[index] - 1).clamp(min=0).to(delta.dtype)

    def drift(self, delta: Tensor, rows: Tensor | None = None) -> Drift:
        """How far the watched latents move, in activations and in pre-activations."""
        index = self._all(rows)
        codes = self._codes(delta, index)
        residual = codes.pre.double() - self._unperturbed.pre[index].double()
        act = codes.act.double() - self._unperturbed.act[index].double()
        return Drift(act.norm(dim=1), residual.norm(dim=1), residual)

    def correct(self, delta: Tensor, rows: Tensor | None = None, known: _Local | None = None) -> Tensor:
        """Gauss-Newton steps ``delta - J^+ (u - u_ref)``, taken only where the residual falls.

        They stop where the drift is within the tolerance, in activations and in pre-activations, or falls no more.

        Args:
            known: what is known nearby; the first step makes do with it, since its Jacobian costs nothing.
        """
        index, delta = self._all(rows), delta.clone()
        left = torch.arange(len(index), device=delta.device)
        now = self.drift(delta, index)
        for turn in range(CORRECTIONS + (known is not None)):
            left = left[~self._settled(now, index)[left]]
            if not len(left):
                break
            borrowed = turn == 0 and known is not None
            local = known.rows(left) if borrowed and known is not None else self._around(delta[left], index[left])
            fell = self._descend(delta, now, index, left, local)
            left = left if borrowed else left[fell]
        return delta

    def _descend(self, delta: Tensor, now: Drift, index: Tensor, left: Tensor, local: _Local) -> Tensor:
        """One step of the rows ``left``, halved until the residual falls; writes into ``delta`` and ``now``."""
        move = local.space.solve(now.residual[left]).to(delta.dtype).view(-1, *self._shape)
        # zero is feasible, so a way back that is longer than the way to zero is a wrong one
        move = within(move, delta[left].flatten(1).norm(dim=1))
        fell = torch.zeros_like(left, dtype=torch.bool)
        for halving in range(HALVINGS):
            tried = (~fell).nonzero()[:, 0]
            place = left[tried]
            trial = delta[place] - 0.5**halving * move[tried]
            new = self.drift(trial, index[place])
            better = new.pre < now.pre[place]
            delta[place[better]] = trial[better]
            for kept, found in zip(now, new, strict=True):
                kept[place[better]] = found[better]
            fell[tried[better]] = True
            if fell.all():
                break
        return fell

    def _return(self, delta: Tensor, budget: Tensor, index: Tensor, known: _Local | None) -> tuple[Tensor, Tensor]:
        """Correct and shorten in turns, since either undoes a little of the other; and which rows are inside then."""
        inside = self.feasible(delta, index)
        for _ in range(ROUNDS):
            left = (~inside).nonzero()[:, 0]
            if not len(left):
                break
            corrected = self.correct(delta[left], index[left], None if known is None else known.rows(left))
            delta[left] = within(corrected, budget[left])
            inside[left] = self.feasible(delta[left], index[left])
            known = None
        return delta, inside

    def _settled(self, drift: Drift, index: Tensor) -> Tensor:
        return (drift.act <= SPARE * self.allowed[index]) & (drift.pre <= SPARE * self._allowed_pre[index])

    def _around(self, delta: Tensor, index: Tensor) -> _Local:
        """Jacobians at ``delta``; kept until others are asked for."""
        known = self._recall(delta, index)
        if known is None:
            found = self._sums_of_rows(delta, index, self._mix, self._sums[index])
            probes = found
            if self._probes is not None:
                every = torch.full_like(index, len(self._probes))
                probes = self._sums_of_rows(delta, index, self._probes, every)
            usable = found.flatten(1).isfinite().all(1)[:, None, None]
            space = row_space(self._mix[: found.shape[1]], torch.where(usable, found, 0.0))
            known = _Local(space, torch.where(usable, probes, torch.nan))
            self._known = (delta.clone(), index, known)
        return known

    def _recall(self, delta: Tensor, index: Tensor) -> _Local | None:
        if self._known is None:
            return None
        at, rows, local = self._known
        return local if torch.equal(rows, index) and torch.equal(at, delta) else None

    def _sums_of_rows(self, delta: Tensor, index: Tensor, mix: Tensor, counts: Tensor) -> Tensor:
        """``mix[:count] @ J`` (rows, largest count, n), zero beyond a row's own count."""
        most = int(counts.max())
        found = delta.new_zeros(len(index), most, delta[0].numel())
        for count in counts.unique().tolist():
            group = (counts == count).nonzero()[:, 0]

            def work(part: slice, group: Tensor = group, count: int = count) -> None:
                own = group[part]
                at = delta[own].detach().requires_grad_()
                with torch.enable_grad():
                    values = self.look(at, index[own]).pre
                found[own, :count] = weighted_rows(values, at, mix[:count]).to(found.dtype)

            self._split(len(group), work)
            self.forwards[index[group]] += 1
            self.backwards[index[group]] += count
        return found

    @torch.no_grad()
    def _codes(self, delta: Tensor, index: Tensor) -> Codes:
        parts: list[Codes] = []
        self._split(len(index), lambda part: parts.append(self.look(delta[part], index[part])))
        self.forwards[index] += 1
        return Codes(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _all(self, rows: Tensor | None) -> Tensor:
        return torch.arange(len(self.forwards), device=self._device) if rows is None else rows


def _mixes(watched: int, exact: bool, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Weights of the sums of Jacobian rows, and of those that verify; always the same, whoever asks."""
    if exact:
        return torch.eye(watched, device=device), None
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(watched, watched, generator=generator) / watched**0.5
    return mix.to(device), (torch.randn(PROBES, watched, generator=generator) / watched**0.5).to(device)
