"""Random latents that carry as much activation as given ones: what a control acts on instead (METHOD section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.errors import UsageError
from defenses.latents import Chosen
from defenses.ranges import Number, Seed


@dataclass(frozen=True)
class StandIns:
    """How a stand-in is drawn for each latent."""

    seed: Seed = 0
    """Of the drawing."""
    candidates: Number = 8
    """It is drawn among so many that are closest to the latent in total activation on ``fit``."""

    def of(self, chosen: Chosen) -> Chosen:
        """The same layer with a stand-in for every latent, none of them twice, none of them given.

        Raises:
            UsageError: the SAE has too few other latents.
        """
        total = chosen.task.mean.clamp(min=1e-12).log()
        generator = torch.Generator().manual_seed(self.seed)
        latents = _drawn(total, chosen.features.latents, self.candidates, generator)
        features = chosen.dictionary.features(latents)
        return chosen._replace(features=features, unit=chosen.task.level[latents].float().to(chosen.unit.device))


def _drawn(total: Tensor, latents: Sequence[int], candidates: int, generator: torch.Generator) -> list[int]:
    """One other latent for each, none twice, drawn among the closest in ``total`` (log total activation)."""
    free = torch.ones_like(total, dtype=torch.bool)
    free[list(latents)] = False
    if int(free.sum()) < len(latents):
        raise UsageError(
            f"{len(latents)} of {len(total)} latents are taken: too few are left to stand in for them; take fewer"
        )
    found = []
    for latent in latents:
        distance = (total - total[latent]).abs().masked_fill(~free, torch.inf)
        near = distance.argsort()[: min(candidates, int(free.sum()))]
        pick = int(near[torch.randint(len(near), (1,), generator=generator)])
        free[pick] = False
        found.append(pick)
    return found
