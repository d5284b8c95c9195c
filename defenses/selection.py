"""Which latents a defense clamps: two rules, both on the ``fit`` split alone.

``attribution``: activation x gradient of the task's objective, contrasted with the same on the retain set, so that
latents which other behaviors need are left alone. ``firing-rate``: fires often on the task and rarely on the retain
set, as SAEBench's unlearning evaluation selects (arXiv 2503.09532).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmark.choices import choice_margin
from benchmark.contracts import Batch, Continuation, Example, Task
from benchmark.errors import UsageError
from benchmark.model.pack import Pack
from benchmark.model.packs import make_packs
from benchmark.model.passes import FullPass, Writes
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary

_ROWS = 32
Objective = Callable[[Any, Batch], Tensor]
"""What is read of a pack, and its batch -> (rows,), differentiable."""


class Activity(NamedTuple):
    """Statistics of every latent over the tokens of some examples (BOS and padding left out); each (width,)."""

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

    def add(self, stream: Tensor, gradient: Tensor, ordinary: Tensor) -> None:
        act = self.features.encode(stream).act * ordinary[..., None]
        slope = gradient.float() @ self.features.decoder.T
        self.effect += (act * slope).sum((0, 1)).double().cpu()
        self.fired += (act > 0).sum((0, 1)).double().cpu()
        self.mass += act.clamp(min=0).sum((0, 1)).double().cpu()

    def over(self, examples: int, tokens: int) -> Activity:
        return Activity(
            self.effect / max(examples, 1), self.fired / max(tokens, 1), self.mass / self.fired.clamp(min=1)
        )


def activity(
    subject: Subject, task: Task, examples: Sequence[Example], dictionaries: Sequence[Dictionary], objective: Objective
) -> list[Activity]:
    """Measure all latents of every dictionary on ``examples``; one pass of the model serves all of them."""
    sums, tokens = [_Sums(d) for d in dictionaries], 0
    boundaries = tuple(d.site.boundary for d in dictionaries)
    for pack in make_packs(subject, task, examples, _ROWS):
        ordinary = ~pack.where.special
        for one, (stream, gradient) in zip(sums, stream_gradients(subject, pack, boundaries, objective), strict=True):
            with torch.no_grad():
                one.add(stream, gradient, ordinary)
        tokens += int(ordinary.sum())
    return [one.over(len(examples), tokens) for one in sums]


def stream_gradients(
    subject: Subject, pack: Pack, boundaries: tuple[int, ...], objective: Objective
) -> list[tuple[Tensor, Tensor]]:
    """At each boundary the undefended stream and the objective's gradient there, both (n, position, d_model).

    Raises:
        UsageError: what is read lies before all of them.
    """
    run = FullPass(subject, pack, {}, Writes(boundaries, 0, pack.length, after=False))
    shape = (len(pack), len(boundaries), pack.length, subject.d_model)
    zero = torch.zeros(shape, device=pack.ids.device, requires_grad=True)
    seen = run(zero, torch.arange(len(pack), device=pack.ids.device), frozenset(boundaries))
    value = objective(seen.read, pack.unread()).sum()
    if not value.requires_grad:
        raise UsageError(f"what is read does not depend on boundaries {boundaries} of the stream; name an earlier site")
    gradient = torch.autograd.grad(value, zero)[0]
    return [(seen.stream[b].detach(), gradient[:, i]) for i, b in enumerate(boundaries)]


def retain_objective(task: Task) -> Objective:
    """What a retain example must not lose: its answer against all alternatives, or its own continuation."""
    if isinstance(task.readout, Continuation):
        return task.objective
    return lambda read, batch: choice_margin(read, batch.answer)


def opposed(activity: Activity) -> Activity:
    """The same latents as seen by a defense that amplifies: what the objective loses as they grow."""
    return activity._replace(effect=-activity.effect)


def by_attribution(task: Activity, retain: Activity | None, contrast: float, rate_ratio: float = 0.0) -> Tensor:
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
        UsageError: none has.
    """
    chosen = [i for i in score.argsort(descending=True, stable=True)[:count].tolist() if score[i] > 0]
    if not chosen:
        raise UsageError(f"no latent of {where} qualifies: every score is 0 or below; try the other `select` or site")
    return tuple(chosen)
