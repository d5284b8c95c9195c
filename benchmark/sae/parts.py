"""The parts of a perturbation: through the clamped latents, through the others, and what the SAE does not explain.

They are no shares of a variance: two of them may be long and opposed (METHOD section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.sae.dictionary import Dictionary


class Parts(NamedTuple):
    """Parts of perturbations, each shaped like them; their sum is the perturbation."""

    clamped: Tensor
    """Through the protected latents: ``dz_S W_dec[S]`` with ``dz = E(h + delta) - E(h)``."""
    other: Tensor
    """Through all other latents of the SAE."""
    residual: Tensor
    """What the SAE does not see or does not explain."""


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
