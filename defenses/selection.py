"""Which latents a defense clamps: two rules, both on the ``fit`` split alone.

``effect``: activation x gradient of the task's objective, contrasted with the same on the retain set, so that latents
which other behaviors need are left alone. ``firing-rate``: fires often on the task and rarely on the retain set, as
SAEBench's unlearning evaluation selects (arXiv 2503.09532).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.defense import Fitting, Slopes
from benchmark.contracts.example import Example
from benchmark.errors import UsageError
from benchmark.sae.dictionary import Dictionary


class Activity(NamedTuple):
    """Statistics of every latent over the tokens of some examples (the beginnings of texts left out); each (width,)."""

    effect: Tensor
    """Mean over examples of sum over positions of activation x gradient: what the objective loses at z = 0, to first
    order. Negative: the latent pushes against the objective."""
    rate: Tensor
    """Share of tokens on which the latent is active."""
    level: Tensor
    """Mean activation over the tokens on which it is active; 0 where it never is."""

    @property
    def mean(self) -> Tensor:
        """Mean activation over all tokens (width,)."""
        return self.rate * self.level


class _Sums:
    """Running sums of the statistics of one dictionary, fp64 on the CPU."""

    def __init__(self, dictionary: Dictionary) -> None:
        self.features = dictionary.everything
        self.effect, self.fired, self.mass = (torch.zeros(dictionary.width, dtype=torch.float64) for _ in range(3))

    @torch.no_grad()
    def add(self, at: Slopes) -> None:
        act = self.features.encode(at.stream).act * at.ordinary[..., None]
        slope = at.gradient.float() @ self.features.decoder.T
        self.effect += (act * slope).sum((0, 1)).double().cpu()
        self.fired += (act > 0).sum((0, 1)).double().cpu()
        self.mass += act.clamp(min=0).sum((0, 1)).double().cpu()

    def over(self, examples: int, tokens: int) -> Activity:
        return Activity(
            self.effect / max(examples, 1), self.fired / max(tokens, 1), self.mass / self.fired.clamp(min=1)
        )


def activity(fitting: Fitting, examples: Sequence[Example], dictionaries: Sequence[Dictionary]) -> list[Activity]:
    """Measure all latents of every dictionary on ``examples``; one pass of the model serves all of them.

    The objective is the task's, or, on the retain set, what must not be lost there.

    Raises:
        UsageError: what is read lies before all of the dictionaries' sites.
    """
    sums, tokens = [_Sums(d) for d in dictionaries], 0
    for slopes in fitting.gradients([d.site for d in dictionaries], examples):
        for one, at in zip(sums, slopes, strict=True):
            one.add(at)
        tokens += int(slopes[0].ordinary.sum())
    return [one.over(len(examples), tokens) for one in sums]


def opposed(activity: Activity) -> Activity:
    """The same latents as seen by a defense that amplifies: what the objective loses as they grow."""
    return activity._replace(effect=-activity.effect)


def by_effect(task: Activity, retain: Activity | None, contrast: float, rate_ratio: float = 0.0) -> Tensor:
    """Score of every latent (width,): effect on the task, less ``contrast`` times the positive effect on the rest; 0
    for latents that fire less than ``rate_ratio`` times as often on the task as on the rest."""
    if retain is None:
        return task.effect
    score = task.effect - contrast * retain.effect.clamp(min=0)
    return score * (task.rate >= rate_ratio * retain.rate)


def by_firing_rate(task: Activity, retain: Activity | None, highest_retain_rate: float) -> Tensor:
    """Score of every latent: firing rate on the task, 0 where it fires on more of the retain set than that."""
    return task.rate if retain is None else task.rate * (retain.rate < highest_retain_rate)


def top(score: Tensor, count: int, where: str) -> tuple[int, ...]:
    """The ``count`` best latents with a positive score, best first.

    Raises:
        UsageError: none has, or there are not so many latents.
    """
    if count > len(score):
        raise UsageError(f"{count} latents were asked for, and {where} has {len(score)}; give a smaller `count`")
    chosen = [i for i in score.argsort(descending=True, stable=True)[:count].tolist() if score[i] > 0]
    if not chosen:
        raise UsageError(f"no latent of {where} qualifies: every score is 0 or below; try the other `select` or site")
    return tuple(chosen)
