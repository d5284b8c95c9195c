"""Whether two SAEs of one place have the same latents: by their decoder directions, and by how often they are active.

A latent's partner in the other SAE is the one whose decoder row is most alike by cosine; sets are matched one to one,
so that two latents cannot share a partner. The baseline are other latents that are active about as often: SAEs agree
more on frequent latents than on rare ones, whatever these are about. A random direction is no baseline, for among
thousands of latents some row is always a little like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.sae.dictionary import Dictionary

_NUMBERS = 2**26
"""Activations that are held at a time, of all latents."""


@dataclass(frozen=True)
class Match:
    """A latent and its partner in the other SAE."""

    latent: int
    partner: int
    cosine: float
    """Of their decoder rows."""
    frequency: float
    """Share of tokens at which the latent is active."""
    partner_frequency: float


@dataclass(frozen=True)
class Stability:
    """How much of some latents there is in another SAE."""

    site: str
    tokens: int
    """That the frequencies are shares of."""
    best: tuple[Match, ...]
    """Each latent with the likest of all latents of the other SAE."""
    one_to_one: tuple[Match, ...]
    """The latents with those of a set in the other SAE, no partner twice, so that the sum of cosines is largest; as
    many as the smaller set has."""
    others: tuple[Match, ...]
    """For each latent another one that is active about as often, with its likest."""

    @property
    def best_cosine(self) -> float:
        """Mean cosine of the latents with their likest."""
        return fmean(match.cosine for match in self.best)

    @property
    def baseline_cosine(self) -> float:
        """The same of the other latents."""
        return fmean(match.cosine for match in self.others)


@torch.no_grad()
def stability(
    one: Dictionary,
    other: Dictionary,
    latents: Sequence[int],
    partners: Sequence[int],
    stream: Tensor,
    *,
    seed: int = 0,
) -> Stability:
    """How the ``latents`` of one SAE are found in another one, and the set ``partners`` there.

    Args:
        stream: (tokens, d_model), of which the frequencies are taken.
        seed: decides among other latents that are as near in frequency.

    Raises:
        UsageError: the SAEs are of two places, a set is empty or has a latent twice or one that does not exist, or
            there are too few other latents to compare with.
    """
    _check(one, other, latents, partners)
    often, theirs = frequencies(one, stream), frequencies(other, stream)
    others = as_frequent(often, latents, seed)
    row = {latent: place for place, latent in enumerate([*latents, *others])}
    cosines = decoder_cosines(one.everything.decoder[list(row)], other.everything.decoder)

    def match(latent: int, partner: int) -> Match:
        values = cosines[row[latent], partner], often[latent], theirs[partner]
        return Match(latent, partner, *(float(value) for value in values))

    def likest(latent: int) -> Match:
        return match(latent, int(cosines[row[latent]].argmax()))

    return Stability(
        str(one.site),
        len(stream),
        tuple(likest(latent) for latent in latents),
        tuple(match(latents[i], partner) for i, partner in assigned(cosines, range(len(latents)), partners)),
        tuple(likest(latent) for latent in others),
    )


def decoder_cosines(one: Tensor, other: Tensor) -> Tensor:
    """Cosines (n, m) of decoder rows (n, d_model) and (m, d_model); 0 for a row of zeros."""
    return torch.nn.functional.normalize(one.float(), dim=1) @ torch.nn.functional.normalize(other.float(), dim=1).T


def frequencies(dictionary: Dictionary, stream: Tensor) -> Tensor:
    """Share of tokens at which each latent is active (width,), on the CPU."""
    active = torch.zeros(dictionary.width, dtype=torch.float64)
    for part in stream.split(max(1, _NUMBERS // dictionary.width)):
        active += (dictionary.everything.encode(part.to(dictionary.device)).act > 0).sum(0).cpu()
    return active / len(stream)


def assigned(cosines: Tensor, latents: Sequence[int], partners: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of the two sets, no one twice, whose sum of cosines is largest."""
    from scipy.optimize import linear_sum_assignment

    part = cosines[list(latents)][:, list(partners)]
    rows, columns = linear_sum_assignment(part.double().cpu().numpy(), maximize=True)
    return [(latents[i], partners[j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)]


def as_frequent(often: Tensor, latents: Sequence[int], seed: int) -> list[int]:
    """For each latent one of the others, nobody twice, that is active as often as it can be found; of several that are
    equally near, a random one."""
    left = torch.randperm(len(often), generator=torch.Generator().manual_seed(seed))
    left = left[~torch.isin(left, torch.tensor(list(latents)))]
    found = []
    for latent in latents:
        nearest = int((often[left] - often[latent]).abs().argmin())
        found.append(int(left[nearest]))
        left = torch.cat([left[:nearest], left[nearest + 1 :]])
    return found


def _check(one: Dictionary, other: Dictionary, latents: Sequence[int], partners: Sequence[int]) -> None:
    if one.site.boundary != other.site.boundary:
        raise UsageError(f"SAEs at {one.site} and {other.site} have no latents in common; give two of one site")
    for dictionary, some in ((one, latents), (other, partners)):
        wrong = sorted({i for i in some if not 0 <= i < dictionary.width})
        if wrong or not some or len(set(some)) != len(some):
            raise UsageError(
                f"latents {wrong or list(some)} of {dictionary.source}, which has {dictionary.width}: name each once"
            )
    if 2 * len(latents) > one.width:
        raise UsageError(f"{len(latents)} of {one.width} latents leave too few to compare with; name fewer")
