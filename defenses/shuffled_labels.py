"""Control: what tells the task's prompts from the retain set's is fitted on both dealt at random (METHOD section 8).

A direction or an eraser has no latents that could be exchanged for random ones. What it knows are labels; with those
shuffled it is the same edit, of the same rank, at the same sites, made of the same prompts, and about nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import torch

from benchmark.contracts import Defense, Example, FittedDefense, Task
from benchmark.model.subject import Subject
from benchmark.registry import register_defense
from defenses.calibration import Trial
from defenses.direction_ablation import DirectionAblation
from defenses.leace import Leace


@register_defense("shuffled-labels")
@dataclass(frozen=True)
class ShuffledLabels(Defense):
    """``direction-ablation`` or ``leace``, fitted on the task's and the retain set's prompts dealt at random."""

    recipe: DirectionAblation | Leace = DirectionAblation()
    """What is fitted."""
    seed: int = 0
    """Of the dealing."""

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        dealt, rest = self._deal(examples, task.retain("fit"))
        blind = copy(task)
        vars(blind)["retain"] = lambda _split: rest
        fitted = self.recipe.fit(subject, blind, dealt)
        return replace(fitted, record={**fitted.record, **Trial(subject, task, examples)(fitted.edits).record})

    def _deal(
        self, examples: Sequence[Example], retain: Sequence[Example]
    ) -> tuple[Sequence[Example], Sequence[Example]]:
        """As many prompts on either side as there were, whichever they are."""
        everyone = [*examples, *retain]
        order = torch.randperm(len(everyone), generator=torch.Generator().manual_seed(self.seed)).tolist()
        shuffled = [everyone[i] for i in order]
        return shuffled[: len(examples)], shuffled[len(examples) :]
