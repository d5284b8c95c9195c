"""What carries a recovery: the clamped latents, the other latents, or what the SAE does not explain (METHOD section 7).

A perturbation is split by what it does to an SAE's latents. The parts are no shares of a variance: two of them may be
long and opposed. So each is replayed at its own norm and at the norm of the whole, beside random vectors of that norm,
and the cosines between them are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.sae.dictionary import Dictionary

Replay = Callable[[Tensor], Tensor]
"""Perturbations (rows, sites, perturbed, d_model) -> (rows,) bool: the goal is reached on a clean pass."""

EMPTY = 1e-5
"""A part below this share of the perturbation is rounding: it has no direction to replay."""


class Parts(NamedTuple):
    """Parts of perturbations, each shaped like them; their sum is the perturbation."""

    clamped: Tensor
    """Through the protected latents: ``dz_S W_dec[S]`` with ``dz = E(h + delta) - E(h)``."""
    other: Tensor
    """Through all other latents of the SAE."""
    residual: Tensor
    """What the SAE does not see or does not explain."""


PAIRS = tuple(combinations((*Parts._fields, "delta"), 2))
"""What cosines are taken between."""


@torch.no_grad()
def split(dictionary: Dictionary, protected: Sequence[int], h: Tensor, delta: Tensor) -> Parts:
    """The parts of ``delta`` (rows, perturbed, d_model) at one site.

    All latents are encoded, so that latents which compete (TopK) are taken as they are. The sum is exact whatever the
    encoder: the residual is what the others leave.

    Args:
        dictionary: the SAE at the site.
        protected: its clamped latents.
        h: the stream that the perturbation is written on (rows, perturbed, d_model): the defended one.
    """
    features, delta = dictionary.everything, delta.float()
    change = features.encode(h + delta).act - features.encode(h).act
    index = torch.tensor(list(protected), dtype=torch.long, device=change.device)
    rest = change.index_fill(-1, index, 0.0)
    clamped, other = (features.decode_change(h, part) for part in (change - rest, rest))
    return Parts(clamped, other, delta - clamped - other)


def split_sites(
    dictionaries: Sequence[Dictionary], protected: Sequence[Sequence[int]], streams: Sequence[Tensor], delta: Tensor
) -> Parts:
    """The same for ``delta`` (rows, sites, perturbed, d_model), site by site."""
    sites = [
        split(dictionary, latents, h, delta[:, i])
        for i, (dictionary, latents, h) in enumerate(zip(dictionaries, protected, streams, strict=True))
    ]
    return Parts(*(torch.stack(part, 1) for part in zip(*sites, strict=True)))


class Attribution(NamedTuple):
    """What the parts of each row's perturbation do; (rows,) each, NaN where a part is empty."""

    share: Mapping[str, Tensor]
    """Norm of a part relative to the perturbation."""
    recovered: Mapping[str, Tensor]
    """The part alone reaches the goal: 0 or 1."""
    equal_recovered: Mapping[str, Tensor]
    """The same, at the norm of the perturbation."""
    random_recovered: Tensor
    """Share of the random vectors of that norm that do."""
    cosine: Mapping[tuple[str, str], Tensor]
    """Between parts, and with the perturbation."""

    def columns(self) -> list[dict[str, object]]:
        """The ``attr_`` columns of every row; null where a part is empty."""
        columns = {f"attr_{name}_share": values for name, values in self.share.items()}
        flags = {f"attr_{name}_recovered": values for name, values in self.recovered.items()}
        flags |= {f"attr_{name}_equal_recovered": values for name, values in self.equal_recovered.items()}
        columns |= {"attr_random_recovered": self.random_recovered}
        columns |= {f"attr_cos_{a}_{b}": values for (a, b), values in self.cosine.items()}
        rows = [{} for _ in self.random_recovered]
        for name, values in {**columns, **flags}.items():
            for row, value in zip(rows, values.tolist(), strict=True):
                row[name] = None if value != value else bool(value) if name in flags else value
        return rows


@torch.no_grad()
def attribute(parts: Parts, delta: Tensor, replay: Replay, noise: Tensor) -> Attribution:
    """Replay every part of ``delta`` (rows, sites, perturbed, d_model) at its own norm and at that of ``delta``.

    Costs ``6 + draws`` passes a row, all at perturbations that no search has seen.

    Args:
        noise: (draws, rows, sites, perturbed, d_model), standard normal; the control for the norm alone.
    """
    whole = _norm(delta)
    named = parts._asdict()
    share = {name: _norm(part) / whole for name, part in named.items()}
    empty = {name: ~(s > EMPTY) for name, s in share.items()}

    def reached(vector: Tensor, nothing: Tensor) -> Tensor:
        return replay(vector).to(whole.dtype).masked_fill(nothing, torch.nan)

    random = torch.stack([replay(_resized(n, whole)).to(whole.dtype) for n in noise]).mean(0)
    directions = {**named, "delta": delta}
    missing = {**empty, "delta": ~(whole > 0)}
    return Attribution(
        share,
        {name: reached(part, empty[name]) for name, part in named.items()},
        {name: reached(_resized(part, whole), empty[name]) for name, part in named.items()},
        random,
        {
            (a, b): _cosine(directions[a], directions[b]).masked_fill(missing[a] | missing[b], torch.nan)
            for a, b in PAIRS
        },
    )


def _norm(x: Tensor) -> Tensor:
    return x.double().flatten(1).norm(dim=1)


def _resized(x: Tensor, norm: Tensor) -> Tensor:
    """``x`` at the given norms (rows,); zero stays zero."""
    factor = norm / _norm(x).clamp(min=1e-30)
    return (x.double() * factor[:, None, None, None]).to(x.dtype)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.double().flatten(1), b.double().flatten(1))
