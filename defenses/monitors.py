"""Detectors that a defense carries: how unlike the defended stream of benign prompts a passage is.

Each is fitted on the ``fit`` split, under the defense's own edits: on the task's prompts and the retain set, neither of
which is attacked. A passage's score is that of its most conspicuous position, the text's beginning left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from benchmark.contracts.defense import Edits, Fitting, Monitor, Where
from benchmark.errors import UsageError
from benchmark.sae.dictionary import Dictionary
from benchmark.sae.features import FeatureSet
from benchmark.sites import Site
from defenses.clamp_edit import reconstruct
from defenses.latents import Chosen

Kind = Literal["none", "sae-residual", "z-score", "mahalanobis"]

FLOOR = 0.01
"""A latent's deviation is measured in units of at least this share of the most variable one's: a clamp leaves some
latents with hardly any spread, and rounding must not look like an attack."""


@dataclass(frozen=True, eq=False)
class SaeResidual(Monitor):
    """Norm of what the SAE cannot reconstruct, in the units of the stream."""

    dictionary: Dictionary

    @property
    def site(self) -> Site:  # type: ignore[override]
        return self.dictionary.site

    def score(self, h: Tensor, where: Where) -> Tensor:
        return _highest((h.float() - reconstruct(h, self.dictionary)).norm(dim=-1), where)


@dataclass(frozen=True, eq=False)
class ZScore(Monitor):
    """Largest standardised deviation of a defended latent's pre-activation from its benign mean."""

    features: FeatureSet
    mean: Tensor
    """(k,)."""
    deviation: Tensor
    """(k,), standard deviation."""

    @property
    def site(self) -> Site:  # type: ignore[override]
        return self.features.site

    @classmethod
    def fit(cls, features: FeatureSet, stream: Tensor) -> ZScore:
        """From benign ``stream`` (tokens, d_model)."""
        pre = features.encode(stream).pre
        deviation = pre.std(0)
        return cls(features, pre.mean(0), deviation.clamp(min=max(FLOOR * float(deviation.max()), 1e-6)))

    def score(self, h: Tensor, where: Where) -> Tensor:
        z = (self.features.encode(h).pre - self.mean) / self.deviation
        return _highest(z.abs().amax(-1), where)


@dataclass(frozen=True, eq=False)
class Mahalanobis(Monitor):
    """Distance of the stream to the Gaussian of benign positions, in standard deviations."""

    site: Site  # type: ignore[override]
    mean: Tensor
    """(d_model,)."""
    whitening: Tensor
    """(d_model, d_model): maps a benign deviation to one of unit covariance."""

    @classmethod
    def fit(cls, site: Site, stream: Tensor) -> Mahalanobis:
        """From benign ``stream`` (tokens, d_model), whose covariance is shrunk so that fewer tokens than dimensions
        are enough (Chen, Wiesel, Eldar and Hero 2010, arXiv 0907.4698)."""
        from sklearn.covariance import oas  # slow to import, and few defenses carry this monitor

        x = stream.double()
        covariance = torch.from_numpy(oas(x.cpu().numpy())[0]).to(x.device)
        values, vectors = torch.linalg.eigh(covariance)
        whitening = vectors / values.clamp(min=1e-12 * values[-1]).sqrt()
        return cls(site, x.mean(0).float(), whitening.float())

    def score(self, h: Tensor, where: Where) -> Tensor:
        return _highest(((h.float() - self.mean) @ self.whitening).norm(dim=-1), where)


def _highest(score: Tensor, where: Where) -> Tensor:
    """The largest of non-negative scores (rows, position) over the ordinary positions: (rows,)."""
    return score.masked_fill(where.special, 0.0).amax(1)


def make_monitor(kind: Kind, fitting: Fitting, edits: Edits, chosen: Sequence[Chosen]) -> Monitor | None:
    """The detector of a defense with ``edits``, at the last of its layers: what is written earlier passes there too.

    Raises:
        UsageError: no example to fit it on.
    """
    if kind == "none":
        return None
    last = max(chosen, key=lambda c: c.features.site.boundary)
    if kind == "sae-residual":
        return SaeResidual(last.dictionary)
    benign = [*fitting.examples, *fitting.retain]
    if not benign:
        raise UsageError(f"the monitor {kind!r} needs `fit` examples of {fitting.task.name}; there are none")
    stream = fitting.streams(last.features.site, benign, at="tokens", edits=edits)
    return ZScore.fit(last.features, stream) if kind == "z-score" else Mahalanobis.fit(last.features.site, stream)
