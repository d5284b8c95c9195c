"""Control: random latents of equal activity are held at their benign mean (METHOD section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.contracts import Defense, Example, FittedDefense, Task
from benchmark.model.subject import Subject
from benchmark.registry import register_defense
from defenses.latents import choose
from defenses.mean_ablation import MeanAblation
from defenses.stand_ins import StandIns


@register_defense("random-mean-ablation")
@dataclass(frozen=True)
class RandomMeanAblation(Defense):
    """``mean-ablation`` with its latents exchanged for random ones that carry as much activation on ``fit``."""

    ablation: MeanAblation = MeanAblation()
    """The ablation whose latents are exchanged."""
    stand_ins: StandIns = StandIns()
    """How the random latents are drawn."""

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        chosen = choose(subject, task, examples, self.ablation.layers, self.ablation.rule)
        return self.ablation.build(subject, task, examples, [self.stand_ins.of(layer) for layer in chosen])
