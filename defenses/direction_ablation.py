"""Remove one direction of the stream: the difference of means of the task and everything else.

After "Refusal in Language Models Is Mediated by a Single Direction" (Arditi et al. 2024, arXiv 2406.11717, sections 2.3
and 2.4): r = mean stream of one set of prompts minus that of the other, at the last prompt token; h' = h - (h r) r.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.errors import UsageError
from benchmark.registry import register_defense
from benchmark.sites import Site
from defenses.schedule import Positions, Schedule, Scheduled
from defenses.shuffled_labels import ShuffledLabels
from defenses.sites import check_sites, named_sites, parse_site


@register_defense("direction-ablation")
@dataclass(frozen=True)
class DirectionAblation(Defense):
    """The stream loses its component along the direction that tells the task's prompts from the retain set's.

    Nothing is ``protected``: a feature set holds latents that are cut off at 0, and of a signed projection that the
    edit puts exactly at 0, a pair of them (r and -r) would call every rounding error a reactivation.
    """

    sites: tuple[str, ...] = ()
    """Where the direction is removed; by default where it is measured. ``all``: between all layers, as in the paper."""
    source: str | None = None
    """Where it is measured; by default the site that the suite names for the task."""
    positions: Positions = "skip_special"
    """skip_special | all: whether a text's beginning (BOS, padding, first position) is spared."""
    schedule: str = "always"
    """always | prompt | generated | every:n."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)
        check_sites(self.sites)
        check_sites([self.source] if self.source is not None else [])

    def fit(self, fitting: Fitting) -> FittedDefense:
        source = parse_site(self.source) if self.source is not None else fitting.site
        difference = difference_of_means(fitting, source)
        schedule = Schedule.parse(self.schedule)
        edit = Scheduled(partial(without, direction=difference / difference.norm()), schedule, self.positions)
        edits = dict.fromkeys(named_sites(fitting, self.sites) or [source], edit)
        record = {"source": str(source), "sites": [str(s) for s in edits], "difference": float(difference.norm())}
        return FittedDefense(edits, record={**record, **fitting.outcome(edits).record})

    def control(self) -> Defense:
        return ShuffledLabels(self)


def difference_of_means(fitting: Fitting, site: Site) -> Tensor:
    """Mean undefended stream at the readout of the examples minus that of the retain set: (d_model,), fp32.

    Raises:
        UsageError: no retain set to hold the examples against, or no difference.
    """
    task = fitting.task.name
    if not fitting.retain:
        raise UsageError(
            f"{task} has no retain set on `fit`: there is nothing to tell its prompts from; give it `retain_data`"
        )
    here, rest = (fitting.streams(site, some).mean(0) for some in (fitting.examples, fitting.retain))
    if not (here - rest).norm() > 0:
        raise UsageError(f"prompts of {task} and of its retain set have the same mean at {site}; try another site")
    return here - rest


def without(h: Tensor, direction: Tensor) -> Tensor:
    """``h`` (..., d_model) less its component along the unit vector ``direction`` (d_model,)."""
    return h - (h @ direction)[..., None] * direction
