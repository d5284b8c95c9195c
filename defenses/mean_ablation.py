"""Set SAE latents to what they are on average elsewhere: nothing is pushed out of its usual range.

Mean ablation replaces a component's activation by its mean over a reference set, where zero ablation would leave the
distribution that later layers know (Wang et al. 2023, arXiv 2211.00593, section 2). Its control holds random latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.registry import register_defense
from benchmark.sites import Site
from defenses.clamp_edit import ClampEdit
from defenses.latents import Chosen, Layer, Rule, choose, suite_saes
from defenses.monitors import Kind, make_monitor
from defenses.schedule import Positions, Schedule
from defenses.stand_ins import StandIns


@register_defense("mean-ablation")
@dataclass(frozen=True)
class MeanAblation(Defense):
    """Latents, given or selected on ``fit``, are held at their mean activation over benign tokens of ``fit``."""

    layers: tuple[Layer, ...] = ()
    """Sites; by default the one that the suite names for the task."""
    rule: Rule = Rule()
    """How latents are selected where none are given."""
    positions: Positions = "skip_special"
    """skip_special | all: whether a text's beginning (BOS, padding, first position) is spared."""
    schedule: str = "always"
    """always | prompt | generated | every:n."""
    monitor: Kind = "none"
    """Detector at the last site: none | sae-residual | z-score | mahalanobis."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)

    def fit(self, fitting: Fitting) -> FittedDefense:
        return self.build(fitting, choose(fitting, self.layers, self.rule))

    def suite_saes(self, site: Site) -> tuple[Site, ...]:
        return suite_saes(self.layers, site)

    def control(self) -> Defense:
        return RandomMeanAblation(self)

    def build(self, fitting: Fitting, chosen: Sequence[Chosen]) -> FittedDefense:
        """The ablation of given latents; the edits of all layers are live at once."""
        edits = {c.features.site: self._edit(c) for c in chosen}
        benign = "retain" if chosen[0].retain is not None else "task"  # a task without a retain set has nothing else
        record = {"layers": [c.record for c in chosen], "mean_over": benign, "mode": "set"}
        outcome = fitting.outcome(edits)
        monitor = make_monitor(self.monitor, fitting, edits, chosen)
        protected = tuple(c.features for c in chosen)
        return FittedDefense(edits, protected, monitor=monitor, record={**record, **outcome.record})

    def _edit(self, chosen: Chosen) -> ClampEdit:
        level = benign_mean(chosen)
        return ClampEdit(chosen.features, "set", level, self.positions, Schedule.parse(self.schedule))


@register_defense("random-mean-ablation")
@dataclass(frozen=True)
class RandomMeanAblation(Defense):
    """Control: ``mean-ablation`` with its latents exchanged for random ones that carry as much activation on ``fit``
    (METHOD section 8)."""

    ablation: MeanAblation = MeanAblation()
    """The ablation whose latents are exchanged."""
    stand_ins: StandIns = StandIns()
    """How the random latents are drawn."""

    def fit(self, fitting: Fitting) -> FittedDefense:
        chosen = choose(fitting, self.ablation.layers, self.ablation.rule)
        return self.ablation.build(fitting, [self.stand_ins.of(layer) for layer in chosen])

    def suite_saes(self, site: Site) -> tuple[Site, ...]:
        return self.ablation.suite_saes(site)


def benign_mean(chosen: Chosen) -> torch.Tensor:
    """Mean activation (k,) of the latents over all tokens of the retain set, or of the task where there is none."""
    measured = chosen.retain or chosen.task
    return measured.mean[list(chosen.features.latents)].to(chosen.unit)
