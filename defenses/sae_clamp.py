"""Clamp SAE latents of the residual stream, as the study of arXiv 2606.18322 did (METHOD section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from benchmark.contracts import Defense, Example, FittedDefense, Task
from benchmark.dictionary import Dictionary, open_dictionary
from benchmark.errors import UsageError
from benchmark.features import FeatureSet
from benchmark.reference import Retention, eligible, judge
from benchmark.registry import register_defense
from benchmark.sites import Site
from benchmark.spec import fingerprint
from benchmark.subject import Subject
from defenses.clamp_edit import ClampEdit, Mode, Positions, Schedule
from defenses.selection import Activity, activity, by_attribution, by_firing_rate, retain_margin, task_margin, top

STRENGTHS = tuple(round(0.5 * 2 ** (i / 2), 3) for i in range(11))
"""Strengths that calibration tries, ascending: 0.5 to 16 times a latent's mean positive activation."""
HOPELESS = 0.1
"""Once so much more of the retain set is lost than may be, larger strengths are not tried."""


@dataclass(frozen=True)
class Layer:
    """One clamped site; several make a multi-layer clamp."""

    site: str
    sae: str | None = None
    """Local folder or ``release/sae_id``; by default the suite's SAE at the site."""
    latents: tuple[int, ...] | None = None
    """Given latents; by default they are selected."""


class Chosen(NamedTuple):
    """The latents of one layer, and their natural units."""

    dictionary: Dictionary
    features: FeatureSet
    unit: Tensor
    """(k,): mean positive activation of each latent on ``fit``."""
    task: Activity
    retain: Activity | None


@register_defense("sae-clamp")
@dataclass(frozen=True)
class SaeClamp(Defense):
    """Clamp latents, given or selected on ``fit``, at a strength given or calibrated there."""

    layers: tuple[Layer, ...] = ()
    """Clamped sites; by default the one that the suite names for the task."""
    select: Literal["attribution", "firing-rate"] = "attribution"
    count: int = 8
    """Latents selected a layer."""
    contrast: float = 1.0
    """Attribution: weight of the effect on the retain set that is held against a latent."""
    rate_ratio: float = 2.0
    """Attribution: latents that do not fire so many times as often on the task as on the retain set are left alone."""
    highest_retain_rate: float = 0.01
    """Firing rate: latents that fire on a larger share of retain tokens are left alone."""
    mode: Mode = "set_if_active"
    strength: float | None = None
    """Multiple of a latent's mean positive activation on ``fit`` (mode ``scale``: the gain); None: calibrated."""
    target_share: float = 0.6
    """Calibration: the smallest strength that suppresses this share of ``fit`` ..."""
    retain_share: float = 0.99
    """... while this share of the retain set is kept."""
    positions: Positions = "skip_special"
    schedule: str = "always"
    """always | prompt | generated | every:n."""
    error_term: Literal["keep", "drop"] = "keep"
    """``drop``: the stream is replaced by the clamped reconstruction."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)
        if self.count < 1 or not 0 < self.target_share <= 1 or not 0 < self.retain_share <= 1:
            raise UsageError("sae-clamp: count must be at least 1, target_share and retain_share in (0, 1]")

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        chosen, strength, found = settle(self, subject, task, tuple(examples))
        return self.build(chosen, strength, found)

    def control(self) -> Defense:
        from defenses.random_clamp import RandomClamp  # it is made of this class

        return RandomClamp(self)

    def choose(self, subject: Subject, task: Task, examples: Sequence[Example]) -> list[Chosen]:
        """Open the SAEs and settle the latents of every layer."""
        layers = self.layers or (Layer(subject.default_site(task.name)),)
        retain = task.retain("fit")
        return [self._choose_layer(subject, task, examples, retain, layer) for layer in layers]

    def _choose_layer(
        self, subject: Subject, task: Task, examples: Sequence[Example], retain: Sequence[Example], layer: Layer
    ) -> Chosen:
        site = parse_site(layer.site)
        dictionary = open_dictionary(subject, site, layer.sae)
        on_task = activity(subject, task, examples, dictionary, task_margin(task))
        on_rest = activity(subject, task, retain, dictionary, retain_margin) if retain else None
        latents = layer.latents or top(self._score(on_task, on_rest), self.count, f"{dictionary.source} at {site}")
        features = dictionary.features(latents)
        unit = on_task.level[list(features.latents)].float().to(subject.device)
        return Chosen(dictionary, features, unit, on_task, on_rest)

    def _score(self, task: Activity, retain: Activity | None) -> Tensor:
        if self.select == "attribution":
            return by_attribution(task, retain, self.contrast, self.rate_ratio)
        return by_firing_rate(task, retain, self.highest_retain_rate)

    def calibrate(
        self, subject: Subject, task: Task, examples: Sequence[Example], chosen: list[Chosen]
    ) -> tuple[float, dict[str, object]]:
        """The strength and what was found, on ``fit`` alone; out of reach: the best that keeps the retain set."""
        if self.strength is not None or self.mode == "zero":
            return self.strength if self.strength is not None else 1.0, {"calibrated": False}
        retention = Retention(subject, task, task.retain("fit"))
        shown = eligible(subject, task, examples, judge(subject, task, examples, {}))
        if not shown.any():
            raise UsageError(f"{subject.name} shows {task.name} on no `fit` example: nothing to calibrate a clamp on")
        best: tuple[float, float, float | None] = (STRENGTHS[0], -1.0, None)
        for strength in STRENGTHS:
            edits = self.build(chosen, strength, {}).edits
            share = float((~judge(subject, task, examples, edits).shown & shown).sum() / shown.sum())
            kept = retention.kept(edits)
            if (kept is None or kept >= self.retain_share) and share > best[1]:
                best = (strength, share, kept)
            if best[1] >= self.target_share or (kept is not None and kept < self.retain_share - HOPELESS):
                break
        strength, share, kept = best
        if share < 0:
            raise UsageError(
                f"no strength down to {STRENGTHS[0]} keeps {self.retain_share:.0%} of the retain set of {task.name}"
            )
        found = {"calibrated": True, "suppressed_fit": share, "retained_fit": kept}
        return strength, {**found, "target_met": share >= self.target_share}

    def build(self, chosen: Sequence[Chosen], strength: float, found: Mapping[str, object]) -> FittedDefense:
        """The clamp at a strength; every layer's edit is live at once."""
        edits = {c.features.site: self._edit(c, strength) for c in chosen}
        layers = [
            {"site": str(c.features.site), "sae": fingerprint(c.dictionary.source), "latents": list(c.features.latents)}
            for c in chosen
        ]
        record = {"layers": layers, "mode": self.mode, "strength": strength, **found}
        return FittedDefense(edits, tuple(c.features for c in chosen), record)

    def _edit(self, chosen: Chosen, strength: float) -> ClampEdit:
        level = torch.full_like(chosen.unit, strength) if self.mode == "scale" else strength * chosen.unit
        drop = chosen.dictionary if self.error_term == "drop" else None
        return ClampEdit(chosen.features, self.mode, level, self.positions, Schedule.parse(self.schedule), drop)


@lru_cache(maxsize=4)
def settle(
    recipe: SaeClamp, subject: Subject, task: Task, examples: tuple[Example, ...]
) -> tuple[list[Chosen], float, dict[str, object]]:
    """Latents, strength and record of a recipe; remembered, because its control starts from the same."""
    chosen = recipe.choose(subject, task, examples)
    return chosen, *recipe.calibrate(subject, task, examples, chosen)


def parse_site(text: str) -> Site:
    """A site as a user wrote it.

    Raises:
        UsageError: not a site of the residual stream.
    """
    try:
        return Site.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
