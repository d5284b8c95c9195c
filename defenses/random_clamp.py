"""Controls: the same edit on as many random latents of equal activity (METHOD section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark.contracts import Defense, Example, FittedDefense, Task
from benchmark.model.subject import Subject
from benchmark.registry import register_defense
from defenses.sae_clamp import SaeClamp, settle
from defenses.stand_ins import StandIns


@register_defense("random-clamp")
@dataclass(frozen=True)
class RandomClamp(Defense):
    """``sae-clamp`` with its latents exchanged for random ones that carry as much activation on ``fit``."""

    clamp: SaeClamp = SaeClamp()
    """The clamp whose latents are exchanged; its strength is calibrated first and then kept."""
    error_term: Literal["keep", "drop"] | None = None
    """What becomes of the error term, where it is another than while the strength was calibrated."""
    stand_ins: StandIns = StandIns()
    """How the random latents are drawn."""

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        clamp = self.clamp.on(task)
        chosen, strength, _ = settle(clamp, subject, task, tuple(examples))
        swapped = [self.stand_ins.of(layer) for layer in chosen]
        made = replace(clamp, error_term=self.error_term or clamp.error_term)
        return made.build(swapped, strength, {"stands_in_for": [list(c.features.latents) for c in chosen]})
