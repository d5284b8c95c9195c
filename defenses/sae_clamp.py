"""Clamp SAE latents of the residual stream, as the study of arXiv 2606.18322 did (METHOD section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch

from benchmark.contracts import Continuation, Defense, Example, FittedDefense, Task
from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.registry import register_defense
from defenses.calibration import Trial, smallest
from defenses.clamp_edit import ClampEdit, Mode
from defenses.latents import Chosen, Layer, Rule, choose
from defenses.monitors import Kind, make_monitor
from defenses.schedule import Positions, Schedule

STRENGTHS = tuple(round(0.5 * 2 ** (i / 2), 3) for i in range(11))
"""Strengths that calibration tries, ascending: 0.5 to 16 times a latent's mean positive activation."""
GAINS = tuple(round(1.5 * 2 ** (i / 2), 3) for i in range(9))
"""The same for the mode ``scale``: 1.5 to 24 times the activation."""


@register_defense("sae-clamp")
@dataclass(frozen=True)
class SaeClamp(Defense):
    """Clamp latents, given or selected on ``fit``, at a strength given or calibrated there."""

    layers: tuple[Layer, ...] = ()
    """Clamped sites; by default the one that the suite names for the task."""
    select: Literal["attribution", "firing-rate"] = "attribution"
    """attribution | firing-rate: by what a latent does to the task's objective, or by how often it fires."""
    count: int = 12
    """Latents selected a layer."""
    contrast: float = 1.0
    """Attribution: weight of the effect on the retain set that is held against a latent."""
    rate_ratio: float = 1.25
    """Attribution: latents that do not fire so many times as often on the task as on the retain set are left alone;
    not asked where latents are driven up."""
    highest_retain_rate: float = 0.01
    """Firing rate: latents that fire on a larger share of retain tokens are left alone."""
    mode: Mode | None = None
    """zero | set | set_if_active | scale; by default the study's: ``scale`` where free text is read (refusal is driven
    up), else ``set_if_active``. A gain above 1 and a positive constant drive latents up, so that those are
    selected which push against the behavior."""
    strength: float | None = None
    """Multiple of a latent's mean positive activation on ``fit`` (mode ``scale``: the gain); None: calibrated."""
    target_share: float = 0.6
    """Calibration: the smallest strength that suppresses this share of ``fit`` ..."""
    retain_share: float = 0.99
    """... while this share of the retain set is kept."""
    positions: Positions = "skip_special"
    """skip_special | all: whether BOS and padding are spared."""
    schedule: str = "always"
    """always | prompt | generated | every:n."""
    error_term: Literal["keep", "drop"] = "keep"
    """``drop``: the stream is replaced by the clamped reconstruction."""
    monitor: Kind = "none"
    """Detector at the last clamped site: none | sae-residual | z-score | mahalanobis."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)
        if self.count < 1 or not 0 < self.target_share <= 1 or not 0 < self.retain_share <= 1:
            raise UsageError("sae-clamp: count must be at least 1, target_share and retain_share in (0, 1]")

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        recipe = self.on(task)
        chosen, strength, found = settle(recipe, subject, task, tuple(examples))
        fitted = recipe.build(chosen, strength, found)
        return replace(fitted, monitor=make_monitor(self.monitor, subject, task, examples, fitted.edits, chosen))

    def on(self, task: Task) -> SaeClamp:
        """The recipe with the mode that it has on a task."""
        usual: Mode = "scale" if isinstance(task.readout, Continuation) else "set_if_active"
        return self if self.mode is not None else replace(self, mode=usual)

    def control(self) -> Defense:
        from defenses.random_clamp import RandomClamp  # it is made of this class

        return RandomClamp(self)

    @property
    def amplifies(self) -> bool:
        """Latents are driven up: a gain above 1, or a positive constant that also forces silent ones on."""
        neutral = {"scale": 1.0, "set": 0.0}.get(self.mode or "")
        return neutral is not None and (self.strength is None or self.strength > neutral)

    def choose(self, subject: Subject, task: Task, examples: Sequence[Example]) -> list[Chosen]:
        """Open the SAEs and settle the latents of every layer."""
        rule = Rule(self.select, self.count, self.contrast, self.rate_ratio, self.highest_retain_rate)
        return choose(subject, task, examples, self.layers, rule, amplified=self.amplifies)

    def calibrate(
        self, subject: Subject, task: Task, examples: Sequence[Example], chosen: list[Chosen]
    ) -> tuple[float, dict[str, object]]:
        """The strength and what was found, on ``fit`` alone, with the edits of all layers live."""
        if self.strength is not None or self.mode == "zero":
            return self.strength if self.strength is not None else 1.0, {"calibrated": False}
        grid = GAINS if self.mode == "scale" else STRENGTHS
        trial = Trial(subject, task, examples)
        strength, outcome = smallest(
            trial, lambda s: self.build(chosen, s, {}).edits, grid, self.target_share, self.retain_share
        )
        met = (outcome.suppressed or 0.0) >= self.target_share
        return strength, {"calibrated": True, **outcome.record, "target_met": met}

    def build(self, chosen: Sequence[Chosen], strength: float, found: Mapping[str, object]) -> FittedDefense:
        """The clamp at a strength; every layer's edit is live at once."""
        edits = {c.features.site: self._edit(c, strength) for c in chosen}
        record = {"layers": [c.record for c in chosen], "mode": self.mode, "strength": strength, **found}
        return FittedDefense(edits, tuple(c.features for c in chosen), record=record)

    def _edit(self, chosen: Chosen, strength: float) -> ClampEdit:
        assert self.mode is not None, "a recipe is settled `on` a task"
        level = torch.full_like(chosen.unit, strength) if self.mode == "scale" else strength * chosen.unit
        drop = chosen.dictionary if self.error_term == "drop" else None
        return ClampEdit(chosen.features, self.mode, level, self.positions, Schedule.parse(self.schedule), drop)


@lru_cache(maxsize=4)
def settle(
    recipe: SaeClamp, subject: Subject, task: Task, examples: tuple[Example, ...]
) -> tuple[list[Chosen], float, dict[str, object]]:
    """Latents, strength and record of a recipe; remembered, because what is made of it starts from the same."""
    chosen = recipe.choose(subject, task, examples)
    return chosen, *recipe.calibrate(subject, task, examples, chosen)
