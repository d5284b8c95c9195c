"""``stability.json``: what the latents that a defense protects in one SAE have in common with those in another."""

from __future__ import annotations

from leaderboard.rows.recorded import Recorded


class MatchRecord(Recorded):
    """A latent and its partner in the other SAE."""

    latent: int
    partner: int
    cosine: float
    """Of their decoder rows."""
    frequency: float
    """Share of tokens at which the latent is active."""
    partner_frequency: float


class PairRecord(Recorded):
    """Two editions of a defense at one site."""

    task: str
    defense: str
    """What both are editions of."""
    first: str
    second: str
    site: str
    saes: list[str]
    """Sources of the first's and the second's."""
    tokens: int
    """That the frequencies are shares of."""
    best: list[MatchRecord]
    """Each latent of the first with the likest of all latents of the second's SAE."""
    one_to_one: list[MatchRecord]
    """The latents of the first with those of the second, none twice."""
    others: list[MatchRecord]
    """Latents of the first's SAE that are active as often, each with its likest."""


class Stability(Recorded):
    """``stability.json``."""

    pairs: list[PairRecord] = []
