"""Clamp SAE latents of the residual stream, as the study of arXiv 2606.18322 did (METHOD section 3).

The control clamps random latents of equal activity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch

from benchmark.contracts.defense import Defense, FittedDefense, Fitting, Outcome
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.registry import register_defense
from benchmark.sites import Site
from defenses.calibration import Aim, search
from defenses.clamp_edit import ClampEdit, Mode
from defenses.folds import Dealt, deal, pooled
from defenses.latents import Chosen, Layer, Measured, Rule, choose, default_layers, suite_saes
from defenses.monitors import Kind, make_monitor
from defenses.ranges import Number, Share, Weight
from defenses.schedule import Positions, Schedule
from defenses.stand_ins import StandIns

STRENGTHS = tuple(round(0.5 * 2 ** (i / 2), 3) for i in range(7))
"""Strengths that calibration tries, ascending: 0.5 to 4 times a latent's mean positive activation. Beyond, text suffers
of which no retain set tells: on SmolLM2 eight latents at 11.3 kept all of it and .58 of plain text's perplexity."""
COUNTS = (4, 8, 12, 20)
"""Latents a layer that calibration tries."""
RATE_RATIOS = (1.25, 2.0)
"""How many times as often on the task as on the retain set a latent fires at least, where calibration tries it."""
GAINS = tuple(round(1.5 * 2 ** (i / 2), 3) for i in range(9))
"""The same for the mode ``scale``: 1.5 to 24 times the activation."""


class Settled(NamedTuple):
    """What a clamp is made of; its control and the bottleneck start from the same."""

    chosen: list[Chosen]
    strength: float
    found: Mapping[str, object]
    """What calibration found, for the record."""


@register_defense("sae-clamp")
@dataclass(frozen=True)
class SaeClamp(Defense):
    """Clamp latents, given or selected on ``fit``; how many, how choosy and how strong is given or calibrated there."""

    layers: tuple[Layer, ...] = ()
    """Clamped sites; by default the one that the suite names for the task."""
    select: Literal["effect", "firing-rate"] = "effect"
    """effect | firing-rate: by activation x gradient, which is what a latent does to the task's objective to first
    order, or by how often it fires."""
    count: Number | None = None
    """Latents selected a layer; None: calibrated."""
    contrast: Weight = 1.0
    """Effect: weight of the effect on the retain set that is held against a latent."""
    rate_ratio: Weight | None = None
    """Effect: latents that do not fire so many times as often on the task as on the retain set are left alone; None:
    calibrated. Not asked where latents are driven up."""
    highest_retain_rate: Share = 0.01
    """Firing rate: latents that fire on a larger share of retain tokens are left alone."""
    mode: Mode | None = None
    """zero | set | set_if_active | scale; by default the study's: ``scale`` where the model is to refuse (the task
    knows how a refusal begins; it is driven up), else ``set_if_active``. A gain above 1 and a positive constant drive
    latents up, so that those are selected which push against the behavior."""
    strength: float | None = None
    """Multiple of a latent's mean positive activation on ``fit`` (mode ``scale``: the gain); None: calibrated."""
    target_share: Share = 0.6
    """Calibration: the fewest latents, then the smallest strength, that suppress this share of ``fit`` ..."""
    retain_share: Share = 0.99
    """... and keep this share of its retain set, with half of what may be lost to spare; both on examples that the
    latents were not selected on."""
    positions: Positions = "skip_special"
    """skip_special | all: whether a text's beginning (BOS, padding, first position) is spared."""
    schedule: str = "always"
    """always | prompt | generated | every:n."""
    error_term: Literal["keep", "drop"] = "keep"
    """``drop``: the stream is replaced by the clamped reconstruction."""
    monitor: Kind = "none"
    """Detector at the last clamped site: none | sae-residual | z-score | mahalanobis."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)
        if (
            (self.count is not None and self.count < 1)
            or not 0 < self.target_share <= 1
            or not 0 < self.retain_share <= 1
        ):
            raise UsageError("sae-clamp: count must be at least 1, target_share and retain_share in (0, 1]")
        if self.strength is not None and not math.isfinite(self.strength):
            raise UsageError(f"strength is {self.strength}; give a finite number, or none to calibrate it")
        if (self.strength or 0.0) < 0 and self.mode in (None, "set_if_active"):
            raise UsageError(
                f"strength is {self.strength}: in the mode set_if_active it is a magnitude, below 0 it would drive up "
                "what it is to hold down; give one of at least 0, or another `mode`"
            )

    def fit(self, fitting: Fitting) -> FittedDefense:
        chosen, strength, found = self.settle(fitting)
        fitted = self.on(fitting.task).build(chosen, strength, found)
        return replace(fitted, monitor=make_monitor(self.monitor, fitting, fitted.edits, chosen))

    def suite_saes(self, site: Site) -> tuple[Site, ...]:
        return suite_saes(self.layers, site)

    def control(self) -> Defense:
        return RandomClamp(self)

    def on(self, task: Task) -> SaeClamp:
        """The recipe with the mode that it has on a task."""
        usual: Mode = "scale" if task.readout.refusing else "set_if_active"
        return self if self.mode is not None else replace(self, mode=usual)

    def settle(self, fitting: Fitting) -> Settled:
        """Latents, strength and what was found, on ``fit`` alone; found once for all that start from this recipe."""
        recipe = replace(self.on(fitting.task), monitor="none")  # which says nothing about any of this
        return fitting.once(recipe, lambda: recipe._settle(fitting))

    @property
    def amplifies(self) -> bool:
        """Latents are driven up: a gain above 1, or a positive constant that also forces silent ones on."""
        neutral = {"scale": 1.0, "set": 0.0}.get(self.mode or "")
        return neutral is not None and (self.strength is None or self.strength > neutral)

    @property
    def strengths(self) -> tuple[float, ...]:
        """Those that calibration may take, ascending: one where it is given or means nothing."""
        if self.strength is not None or self.mode == "zero":
            return (1.0 if self.strength is None else self.strength,)
        return GAINS if self.mode == "scale" else STRENGTHS

    def _settle(self, fitting: Fitting) -> Settled:
        layers = self.layers or default_layers(fitting)
        rules, (strength, *stronger) = self._rules(layers, fitting), self.strengths
        if stronger or len(rules) > 1:
            return self._calibrate(fitting, deal(fitting, layers), rules)
        chosen = choose(fitting, layers, rules[0], amplified=self.amplifies)
        return Settled(chosen, strength, {"calibrated": False})

    def _rules(self, layers: Sequence[Layer], fitting: Fitting) -> list[Rule]:
        """Ways to select latents that are to be tried; one, where nothing depends on it."""
        selects = any(layer.latents is None for layer in layers)
        contrasts = selects and self.select == "effect" and not self.amplifies and bool(fitting.retain)
        counts = COUNTS if self.count is None else (self.count,)
        ratios = RATE_RATIOS if self.rate_ratio is None else (self.rate_ratio,)
        return [
            Rule(self.select, count, self.contrast, ratio, self.highest_retain_rate)
            for count in (counts if selects else counts[:1])
            for ratio in (ratios if contrasts else ratios[:1])
        ]

    def _calibrate(self, fitting: Fitting, dealt: Dealt, rules: Sequence[Rule]) -> Settled:
        """Latents and strength, with the edits of all layers live."""
        aim = Aim(self.target_share, self.retain_share)

        def measure(rule: Rule, strength: float) -> Outcome:
            found = pooled([f.judge.outcome(self._build(f.learned, rule, strength).edits) for f in dealt.folds])
            if not found.shown:
                raise UsageError(
                    f"{fitting.subject.name} shows {fitting.task.name} on no `fit` example: nothing to calibrate a "
                    "clamp on; choose a task that the model has learned, or give count, rate_ratio and strength"
                )
            return found

        tried = search(dealt.possible(rules, amplified=self.amplifies), self.strengths, aim, measure)
        best = aim.best(tried)
        chosen = [one.chosen(best.rule, amplified=self.amplifies) for one in dealt.whole]
        edits = self.build(chosen, best.strength, {}).edits
        outcome = pooled([fold.judge.outcome(edits) for fold in dealt.folds])  # every example is in one of them
        ratio = {"rate_ratio": best.rule.rate_ratio} if len({rule.rate_ratio for rule in rules}) > 1 else {}
        pair = best.record if len(dealt.folds) > 1 else {}
        found = {"calibrated": True, **ratio, **outcome.record, **pair, "tried": len(tried)}
        return Settled(chosen, best.strength, {**found, "target_met": aim.meets(best.outcome)})

    def _build(self, measured: Sequence[Measured], rule: Rule, strength: float) -> FittedDefense:
        return self.build([one.chosen(rule, amplified=self.amplifies) for one in measured], strength, {})

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


@register_defense("random-clamp")
@dataclass(frozen=True)
class RandomClamp(Defense):
    """Control: ``sae-clamp`` with its latents exchanged for random ones that carry as much activation on ``fit``
    (METHOD section 8)."""

    clamp: SaeClamp = SaeClamp()
    """The clamp whose latents are exchanged; its strength is calibrated first and then kept."""
    error_term: Literal["keep", "drop"] | None = None
    """What becomes of the error term, where it is another than while the strength was calibrated."""
    stand_ins: StandIns = StandIns()
    """How the random latents are drawn."""

    def fit(self, fitting: Fitting) -> FittedDefense:
        chosen, strength, _ = self.clamp.settle(fitting)
        clamp = self.clamp.on(fitting.task)
        made = replace(clamp, error_term=self.error_term or clamp.error_term)
        swapped = [self.stand_ins.of(layer) for layer in chosen]
        return made.build(swapped, strength, {"stands_in_for": [list(c.features.latents) for c in chosen]})

    def suite_saes(self, site: Site) -> tuple[Site, ...]:
        return self.clamp.suite_saes(site)
