"""A toy world for defenses: a tiny model, a random SAE at its site, and what an edit does to a generation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.contracts.defense import Defense, Edit, FittedDefense, Where
from benchmark.contracts.example import Example, Split
from benchmark.contracts.readout import Criteria
from benchmark.contracts.task import Task
from benchmark.model.edits import edited
from benchmark.model.subject import Subject
from benchmark.run.fitting import Fit
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sites import Site
from defenses.latents import Layer, Rule
from defenses.sae_clamp import SaeClamp
from tests import tiny

HERE = Site.parse(tiny.SITE)
ABOVE = Site.parse("blocks.2.hook_resid_post")
LATENTS = (3, 1, 40)
LENIENT: dict[str, Any] = {"contrast": 0.0, "rate_ratio": 0.0}
"""On a random model no latent stands out: take the best all the same."""
CLAMP = SaeClamp(strength=2.0, count=12, **LENIENT)
CALIBRATED = SaeClamp(count=24, target_share=0.3, retain_share=0.01, **LENIENT)
RULE = Rule(**LENIENT)
GIVEN = (Layer(tiny.SITE, latents=LATENTS),)


class Alone(tiny.ToyTask):
    """A task with nothing beside it."""

    def retain(self, split: Split) -> Sequence[Example]:
        return ()


class Never(tiny.ToyTask):
    """The model never shows it."""

    def verdict(self, read: Tensor, criteria: Criteria) -> Any:
        return super().verdict(read, criteria)._replace(margin=-read.abs().sum(1))


class Lopsided(tiny.ToyTask):
    """A retain set that is not a part of the task's own examples."""

    def retain(self, split: Split) -> Sequence[Example]:
        return self.examples("dev")


def world(folder: Path, d_sae: int = 64) -> tuple[Subject, Dictionary]:
    """A tiny subject and the SAE at its site."""
    made = tiny.subject(saes={tiny.SITE: tiny.sae_folder(folder, d_sae=d_sae)})
    return made, open_dictionary(made, HERE)


def second_layer(folder: Path, latents: tuple[int, ...] | None = None) -> Layer:
    """Another site with a random SAE of its own."""
    sae = tiny.sae_folder(folder / "above", metadata={"hook_name": str(ABOVE)}, seed=1)
    return Layer(str(ABOVE), sae=sae, latents=latents)


def seen(subject: Subject, task: Task | None = None) -> Fit:
    """What a defense sees at the toy site."""
    return Fit(subject, tiny.viewed(task), HERE)


def fit(recipe: Defense | None, subject: Subject, task: Task | None = None) -> FittedDefense:
    """A recipe, or a control, fitted on the toy task."""
    assert recipe is not None
    return recipe.fit(seen(subject, task))


def stream(rows: int = 3, length: int = 8) -> Tensor:
    return 2 * torch.randn(rows, length, tiny.D_MODEL, generator=torch.Generator().manual_seed(5)) + 0.4


def place(h: Tensor) -> Where:
    """BOS in front of every row, all of it prompt."""
    special = torch.zeros(h.shape[:2], dtype=torch.bool)
    special[:, 0] = True
    return Where(torch.arange(h.shape[1]), special, torch.zeros_like(special))


def moved_in_generation(subject: Subject, site: Site, edit: Edit, prompt: int = 5, new: int = 6) -> list[int]:
    """Absolute positions at which ``edit`` changes the stream while ``new`` tokens are generated behind a prompt."""
    moved: dict[int, bool] = {}

    def watched(h: Tensor, where: Where) -> Tensor:
        out = edit(h, where)
        moved.update(zip(where.index.tolist(), (out != h).any(-1).all(0).tolist(), strict=True))
        return out

    ids = tiny.pack(subject, 2, prompt).ids
    with edited(subject, {site: watched}) as model:
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new + 1,  # the last one is written and never read
            min_new_tokens=new + 1,
            do_sample=False,
            suppress_tokens=[0, 1],  # a BOS that the model writes would be spared
        )
    assert sorted(moved) == list(range(prompt + new))
    return [position for position, did in moved.items() if did]
