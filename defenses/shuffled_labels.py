"""Control: what tells the task's prompts from the retain set's is fitted on both dealt at random (METHOD section 8).

A direction or an eraser has no latents that could be exchanged for random ones. What it knows are labels; with those
shuffled it is the same edit, of the same rank, at the same sites, made of the same prompts, and about nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.contracts.example import Example
from benchmark.sites import Site
from defenses.ranges import Seed


@dataclass(frozen=True)
class ShuffledLabels(Defense):
    """A recipe fitted on the task's and the retain set's prompts dealt at random: what its ``control`` gives."""

    name = "shuffled-labels"
    recipe: Defense
    """What is fitted."""
    seed: Seed = 0
    """Of the dealing."""

    def fit(self, fitting: Fitting) -> FittedDefense:
        dealt = self.recipe.fit(fitting.dealt(*self._deal(fitting.examples, fitting.retain)))
        return replace(dealt, record={**dealt.record, **fitting.outcome(dealt.edits).record})

    def suite_saes(self, site: Site) -> tuple[Site, ...]:
        return tuple(self.recipe.suite_saes(site))

    def _deal(
        self, examples: Sequence[Example], retain: Sequence[Example]
    ) -> tuple[Sequence[Example], Sequence[Example]]:
        """As many prompts on either side as there were, whichever they are."""
        everyone = [*examples, *retain]
        order = torch.randperm(len(everyone), generator=torch.Generator().manual_seed(self.seed)).tolist()
        shuffled = [everyone[i] for i in order]
        return shuffled[: len(examples)], shuffled[len(examples) :]
