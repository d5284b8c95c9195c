"""Remove one direction of the stream: the difference of means of the task and everything else.

After "Refusal in Language Models Is Mediated by a Single Direction" (Arditi et al. 2024, arXiv 2406.11717, sections 2.3
and 2.4): r = mean stream of one set of prompts minus that of the other, at the last prompt token; h' = h - (h r) r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from benchmark.cells.reference import readout_stream
from benchmark.contracts import Defense, Example, FittedDefense, Task
from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.registry import register_defense
from benchmark.sites import Site
from defenses.calibration import Trial
from defenses.latents import parse_site
from defenses.schedule import Positions, Schedule, Scheduled


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
    """skip_special | all: whether BOS and padding are spared."""
    schedule: str = "always"
    """always | prompt | generated | every:n."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        source = parse_site(self.source or subject.default_site(task.name))
        difference = difference_of_means(subject, task, examples, source)
        schedule = Schedule.parse(self.schedule)
        edit = Scheduled(partial(without, direction=difference / difference.norm()), schedule, self.positions)
        sites = named_sites(subject, self.sites) or [source]
        edits = dict.fromkeys(sites, edit)
        record = {"source": str(source), "sites": [str(s) for s in sites], "difference": float(difference.norm())}
        return FittedDefense(edits, record={**record, **Trial(subject, task, examples)(edits).record})

    def control(self) -> Defense:
        from defenses.shuffled_labels import ShuffledLabels  # it is made of this class

        return ShuffledLabels(self)


def difference_of_means(subject: Subject, task: Task, examples: Sequence[Example], site: Site) -> Tensor:
    """Mean undefended stream at the readout of ``examples`` minus that of the retain set of ``fit``: (d_model,), fp32.

    Raises:
        UsageError: no retain set to hold the examples against, or no difference.
    """
    retain = task.retain("fit")
    if not retain:
        raise UsageError(f"{task.name} has no retain set on `fit`: there is nothing to tell its prompts from")
    here, rest = (readout_stream(subject, task, some, subject.check(site)).mean(0) for some in (examples, retain))
    if not (here - rest).norm() > 0:
        raise UsageError(f"prompts of {task.name} and of its retain set have the same mean at {site}; try another site")
    return here - rest


def without(h: Tensor, direction: Tensor) -> Tensor:
    """``h`` (..., d_model) less its component along the unit vector ``direction`` (d_model,)."""
    return h - (h @ direction)[..., None] * direction


def named_sites(subject: Subject, names: Sequence[str]) -> list[Site]:
    """Sites as a user named them; ``all`` is every boundary between layers, the model's ends included.

    Raises:
        UsageError: a name that is no site, or a site that the model does not have.
    """
    if list(names) == ["all"]:
        last = subject.n_layers - 1
        return [*(Site(layer) for layer in range(subject.n_layers)), Site(last, "resid_post")]
    return [subject.check(parse_site(name)) for name in names]
