"""Control: every prompt is steered to a refusal, or, where a task has none, away from whatever the behavior is.

It suppresses like the best of defenses and answers nothing any more: only the utility gate tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.errors import UsageError
from benchmark.registry import register_defense
from benchmark.sites import Site
from defenses.ranges import Share
from defenses.schedule import Schedule, Scheduled
from defenses.sites import check_sites, parse_site

SIZES = (1.0, 2.0, 4.0, 8.0)
"""Lengths that are tried, in units of the stream's median norm: from as loud as the stream to drowning it."""


@register_defense("always-refuse")
@dataclass(frozen=True)
class AlwaysRefuse(Defense):
    """A constant vector, as large as the stream or larger, is added at every position."""

    site: str | None = None
    """By default the site that the suite names for the task."""
    target_share: Share = 0.99
    """The smallest length that suppresses this share of ``fit``, whatever it costs; or the one that suppresses most."""
    schedule: str = "always"
    """always | prompt | generated | every:n."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)
        check_sites([self.site] if self.site is not None else [])

    def fit(self, fitting: Fitting) -> FittedDefense:
        site = parse_site(self.site) if self.site is not None else fitting.site
        toward = refusing_minus_complying(fitting, site)
        away = against_objective(fitting, site) if toward is None else toward
        unit = float(fitting.streams(site).norm(dim=1).median()) * away / away.norm()
        schedule = Schedule.parse(self.schedule)

        def build(size: float) -> dict[Site, Scheduled]:
            return {site: Scheduled(partial(torch.add, size * unit), schedule)}

        size, outcome = fitting.calibrate(build, SIZES, target_share=self.target_share, retain_share=0.0)
        meant = "against the objective" if toward is None else "refusing minus complying"
        return FittedDefense(
            build(size), record={"site": str(site), "direction": meant, "size": size, **outcome.record}
        )


def refusing_minus_complying(fitting: Fitting, site: Site) -> Tensor | None:
    """Mean undefended readout stream (d_model,) of the ``fit`` and retain examples that are refused, less that of the
    others; None: the undefended model refuses none or all."""
    everyone = [*fitting.examples, *fitting.retain]
    labels = fitting.labels(everyone)
    refused = torch.tensor([label == "refusal" for label in labels], device=fitting.subject.device)
    if not refused.any() or refused.all():
        return None
    stream = fitting.streams(site, everyone)
    return stream[refused].mean(0) - stream[~refused].mean(0)


def against_objective(fitting: Fitting, site: Site) -> Tensor:
    """The direction (d_model,) in which the same vector at every token lowers the objective most, to first order.

    Raises:
        UsageError: the objective does not depend on the stream there.
    """
    total = torch.zeros(fitting.subject.d_model, device=fitting.subject.device)
    for (at,) in fitting.gradients([site]):
        total -= (at.gradient.float() * at.ordinary[..., None]).sum((0, 1))
    if not total.norm() > 0:
        task = fitting.task.name
        raise UsageError(f"the objective of {task} does not depend on the stream at {site}; try an earlier site")
    return total
