"""A defense over several SAEs of a site: whether it protects the same latents, and how far its figures lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from leaderboard.rows.stability import MatchRecord, PairRecord
from leaderboard.scores.drawn import Drawn, difference, gap, share
from leaderboard.scores.intervals import wilson
from leaderboard.scores.tasks import Utility
from leaderboard.scores.values import NOTHING, Estimate, Strict


class Match(Strict):
    """A latent and its partner in the other SAE."""

    latent: int
    partner: int
    cosine: float
    """Of their decoder rows."""
    frequency: float
    """Share of the `fit` tokens at which the latent is active."""
    partner_frequency: float


class SaePair(Strict):
    """The protected latents of one edition, looked for in the SAE of another."""

    first: str
    second: str
    site: str
    tokens: int
    """Of `fit`, that the frequencies are shares of."""
    best_cosine: float
    """Mean over the first's latents of the cosine with the likest of all latents of the other SAE."""
    baseline_cosine: float
    """The same of as many other latents of the first's SAE, active as often: what latents in general have."""
    one_to_one_cosine: float
    """Mean over the first's latents matched with the second's, none twice."""
    frequency: float
    """Mean share of tokens at which the first's latents are active."""
    partner_frequency: float
    """The same of the latents that are likest to them."""
    best: list[Match]
    one_to_one: list[Match]
    others: list[Match]
    """Those of the baseline."""


class Spread(Strict):
    """A figure over the editions of a defense."""

    by_edition: dict[str, Estimate]
    min: Estimate
    """The smallest known one, with its own interval; so ``max``."""
    max: Estimate
    range: Estimate
    """Largest less smallest, with a paired interval of just these two: they were chosen for being far apart, so it is
    no test. Value null: fewer than two are known."""


class TaskStability(Strict):
    """One task."""

    score: Spread
    """The smallest AURC of the scored threat models."""
    rs0: Spread
    """RS(0): the share that is suppressed when nobody attacks."""
    retained: Spread
    """The share of the retain set that is kept; its intervals count each cluster as one row, and its range has none."""
    pairs: list[SaePair]


class Stability(Strict):
    """One defense of a run that was evaluated with several SAEs."""

    defense: str
    run_id: str
    saes: dict[str, dict[str, str]]
    """By edition: site -> source of its SAE."""
    wrs: Spread
    per_task: dict[str, TaskStability]


def sae_pair(record: PairRecord) -> SaePair:
    """What two editions have in common."""
    return SaePair(
        first=record.first,
        second=record.second,
        site=record.site,
        tokens=record.tokens,
        best_cosine=_cosine(record.best),
        baseline_cosine=_cosine(record.others),
        one_to_one_cosine=_cosine(record.one_to_one),
        frequency=fmean(one.frequency for one in record.best),
        partner_frequency=fmean(one.partner_frequency for one in record.best),
        **{name: [Match(**dict(one)) for one in getattr(record, name)] for name in ("best", "one_to_one", "others")},
    )


def _cosine(matches: Sequence[MatchRecord]) -> float:
    return fmean(one.cosine for one in matches)


def drawn_spread(found: Mapping[str, Drawn | None], clusters: int) -> Spread:
    """Of a statistic in [0, 1], by edition; null: it has none."""
    shares = {name: share(one, clusters) for name, one in found.items()}
    order = sorted((one for one in found.values() if one is not None), key=lambda one: one.value)
    apart = gap(difference(order[-1], order[0]), clusters) if len(order) > 1 else NOTHING
    return _spread(shares, apart)


def retained_spread(found: Mapping[str, Utility | None]) -> Spread:
    """Of the share that is retained, by edition."""
    shares = {name: _retained(one) for name, one in found.items()}
    known = [one.value for one in shares.values() if one.value is not None]
    return _spread(shares, Estimate(value=max(known) - min(known)) if len(known) > 1 else NOTHING)


def _retained(utility: Utility | None) -> Estimate:
    if utility is None or utility.retained is None:
        return NOTHING
    clusters = utility.n_clusters if utility.n_clusters > 1 else 0
    return Estimate(
        value=utility.retained, interval=wilson(utility.retained * clusters, clusters, "wilson-on-clusters")
    )


def _spread(shares: Mapping[str, Estimate], apart: Estimate) -> Spread:
    known = [(one.value, name) for name, one in shares.items() if one.value is not None]
    low, high = (shares[end(known)[1]] if known else NOTHING for end in (min, max))
    return Spread(by_edition=dict(shares), min=low, max=high, range=apart)
