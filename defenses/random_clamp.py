"""Control: the same clamp on as many random latents of equal activity (METHOD section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.contracts import Defense, Example, FittedDefense, Task
from benchmark.model.subject import Subject
from benchmark.registry import register_defense
from defenses.latents import Chosen
from defenses.sae_clamp import SaeClamp, settle


@register_defense("random-clamp")
@dataclass(frozen=True)
class RandomClamp(Defense):
    """``sae-clamp`` with its latents exchanged for random ones that carry as much activation on ``fit``."""

    clamp: SaeClamp = SaeClamp()
    """The clamp whose latents are exchanged; its strength is calibrated first and then kept."""
    seed: int = 0
    candidates: int = 8
    """Each latent's stand-in is drawn among so many that are closest to it in total activation."""

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        clamp = self.clamp.on(task)
        chosen, strength, _ = settle(clamp, subject, task, tuple(examples))
        swapped = [self._swap(layer) for layer in chosen]
        return clamp.build(swapped, strength, {"stands_in_for": [list(c.features.latents) for c in chosen]})

    def _swap(self, chosen: Chosen) -> Chosen:
        total = chosen.task.mean.clamp(min=1e-12).log()
        generator = torch.Generator().manual_seed(self.seed)
        latents = _stand_ins(total, chosen.features.latents, self.candidates, generator)
        features = chosen.dictionary.features(latents)
        return chosen._replace(features=features, unit=chosen.task.level[latents].float().to(chosen.unit.device))


def _stand_ins(total: Tensor, latents: Sequence[int], candidates: int, generator: torch.Generator) -> list[int]:
    """One other latent for each, none twice, drawn among the closest in ``total`` (log total activation)."""
    free = torch.ones_like(total, dtype=torch.bool)
    free[list(latents)] = False
    found = []
    for latent in latents:
        distance = (total - total[latent]).abs().masked_fill(~free, torch.inf)
        near = distance.argsort()[:candidates]
        pick = int(near[torch.randint(len(near), (1,), generator=generator)])
        free[pick] = False
        found.append(pick)
    return found
