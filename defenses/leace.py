"""LEACE: no linear probe can tell the task's tokens from others any more, at the least change of the stream.

"LEACE: Perfect linear concept erasure in closed form" (Belrose et al. 2023, arXiv 2306.03819), with the authors'
package. The concept is binary: a token of the task's prompts, or of the retain set's. The eraser is fitted on all
ordinary tokens, not on readouts alone, because it then acts on all of them, and because a covariance of d_model
dimensions needs more samples than there are prompts.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from benchmark.contracts.defense import Defense, Edit, Edits, FittedDefense, Fitting
from benchmark.errors import UsageError
from benchmark.registry import register_defense
from benchmark.sites import Site
from defenses.schedule import Positions, Schedule, Scheduled
from defenses.shuffled_labels import ShuffledLabels
from defenses.sites import check_sites, named_sites


@register_defense("leace")
@dataclass(frozen=True)
class Leace(Defense):
    """An affine map of rank one removes every linear trace of the task from single tokens.

    Nothing is ``protected``: what is erased is a signed projection and no latent that could be active or not.
    """

    sites: tuple[str, ...] = ()
    """Where it acts; by default the site that the suite names for the task. ``all``: between all layers. Several are
    fitted from the bottom up, each on what the erasers below it leave (the paper's concept scrubbing)."""
    positions: Positions = "skip_special"
    """skip_special | all: whether a text's beginning (BOS, padding, first position) is spared."""
    schedule: str = "always"
    """always | prompt | generated | every:n."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)
        check_sites(self.sites)

    def fit(self, fitting: Fitting) -> FittedDefense:
        sites = named_sites(fitting, self.sites) or [fitting.site]
        edits: dict[Site, Edit] = {}
        ranks = []
        for site in sorted(sites, key=lambda s: s.boundary):
            eraser = fit_eraser(fitting, site, edits)
            edits[site] = Scheduled(eraser, Schedule.parse(self.schedule), self.positions)
            ranks.append(int(torch.linalg.matrix_rank(eraser.proj_left @ eraser.proj_right)))
        record = {"sites": [str(s) for s in edits], "ranks": ranks, "concept": "token of the task against retain set"}
        return FittedDefense(edits, record={**record, **fitting.outcome(edits).record})

    def control(self) -> Defense:
        return ShuffledLabels(self)


def fit_eraser(fitting: Fitting, site: Site, edits: Edits) -> Any:
    """The eraser of ``site`` while ``edits`` are live, a function of streams (..., d_model), fp32; fitted in fp64.

    Raises:
        UsageError: the package is missing, or there is no retain set to hold the examples against.
    """
    eraser_class, fitter_class = _package()
    if not fitting.retain:
        raise UsageError(
            f"{fitting.task.name} has no retain set on `fit`: "
            "there is nothing to tell its tokens from; give it `retain_data`"
        )
    subject = fitting.subject
    fitter = fitter_class(subject.d_model, 1, device=subject.device, dtype=torch.float64)
    for some, label in ((fitting.examples, 1.0), (fitting.retain, 0.0)):
        stream = fitting.streams(site, some, at="tokens", edits=edits)
        fitter.update(stream.double(), torch.full((len(stream), 1), label, device=stream.device, dtype=torch.float64))
    fitted = fitter.eraser
    return eraser_class(fitted.proj_left.float(), fitted.proj_right.float(), fitted.bias.float())


def _package() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it scripts a function on import, which torch has deprecated
            from concept_erasure import LeaceEraser, LeaceFitter
    except ImportError as error:
        raise UsageError("the defense leace needs concept-erasure: pip install 'recoverybench[leace]'") from error
    return LeaceEraser, LeaceFitter
