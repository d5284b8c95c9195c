"""Which latents a defense clamps: two rules, both on the ``fit`` split alone.

``attribution``: activation x gradient of the task's margin, contrasted with the same on the retain set, so that
latents which other behaviors need are left alone. ``firing-rate``: fires often on the task and rarely on the retain
set, as SAEBench's unlearning evaluation selects (arXiv 2503.09532).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.choices import choice_margin
from benchmark.contracts import Batch, Example, Task
from benchmark.dictionary import Dictionary
from benchmark.errors import UsageError
from benchmark.pack import Pack
from benchmark.packs import make_packs
from benchmark.passes import FullPass, Writes
from benchmark.subject import Subject

_ROWS = 32
_Margin = Callable[[Tensor, Batch], Tensor]


class Activity(NamedTuple):
    """Statistics of every latent over the tokens of some examples (BOS and padding left out); each (width,)."""

    effect: Tensor
    """Mean over examples of sum over positions of activation x gradient: the margin lost at z = 0, to first order."""
    rate: Tensor
    """Share of tokens on which the latent is active."""
    level: Tensor
    """Mean activation over the tokens on which it is active; 0 where it never is."""


def activity(
    subject: Subject, task: Task, examples: Sequence[Example], dictionary: Dictionary, margin: _Margin
) -> Activity:
    """Measure all latents of ``dictionary`` on ``examples``."""
    width = dictionary.width
    effect, fired, mass = (torch.zeros(width, dtype=torch.float64) for _ in range(3))
    tokens = 0
    features = dictionary.everything
    for pack in make_packs(subject, task, examples, _ROWS):
        stream, gradient = _stream_gradient(subject, pack, dictionary.site.boundary, margin)
        with torch.no_grad():
            act = features.encode(stream).act * ~pack.where.special[..., None]
            slope = gradient.float() @ features.decoder.T
            effect += (act * slope).sum((0, 1)).double().cpu()
            fired += (act > 0).sum((0, 1)).double().cpu()
            mass += act.clamp(min=0).sum((0, 1)).double().cpu()
        tokens += int((~pack.where.special).sum())
    return Activity(effect / max(len(examples), 1), fired / max(tokens, 1), mass / fired.clamp(min=1))


def _stream_gradient(subject: Subject, pack: Pack, boundary: int, margin: _Margin) -> tuple[Tensor, Tensor]:
    """The undefended stream at ``boundary`` and the gradient of the margin there, both (n, position, d_model)."""
    run = FullPass(subject, pack, {}, Writes((boundary,), 0, pack.length, after=False))
    zero = torch.zeros(len(pack), 1, pack.length, subject.d_model, device=pack.ids.device, requires_grad=True)
    rows = torch.arange(len(pack), device=pack.ids.device)
    seen = run(zero, rows, frozenset({boundary}))
    batch = pack.unread()
    gradient = torch.autograd.grad(margin(seen.read, batch).sum(), zero)[0]
    return seen.stream[boundary].detach(), gradient[:, 0]


def task_margin(task: Task) -> _Margin:
    """The margin that the task judges by."""
    return lambda read, batch: task.verdict(read, batch).margin


def retain_margin(read: Tensor, batch: Batch) -> Tensor:
    """The margin of a retain example: its answer against all alternatives."""
    return choice_margin(read, batch.answer)


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
