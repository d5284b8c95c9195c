"""Readout: linear probes of the mean stream over a prompt, each class against the rest, fitted on the undefended model.

One fit for a (model, data): a defense is judged by a probe that has never seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from benchmark.contracts.example import Example
from benchmark.contracts.readout import Encoded, Last, Member, Reader, Readout
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.model.edits import Passage, is_special, passing
from benchmark.model.pack import encode, packed
from benchmark.model.prompts import prompt_tokens
from benchmark.model.subject import Subject
from benchmark.sites import Site

ROWS = 128
INVERSE_PENALTY = 1.0
"""scikit-learn's C of the logistic regression on standardised inputs."""


@dataclass(frozen=True)
class Probe(Readout):
    """One logit a class ``(rows, classes)``; an example's class is its ``answer``."""

    reached_by_suffix = False

    site: str
    """Where the stream is read."""
    classes: tuple[str, ...]
    """Names, in the order of the logits."""

    @property
    def reads_at(self) -> Site:
        return Site.parse(self.site)

    def encode(self, tokenizer: Any, example: Example) -> Encoded:
        """The prompt, all of whose tokens are read but those that the text begins with."""
        tokens = prompt_tokens(tokenizer, example.prompt, example.id)
        return Encoded(tokens, len(tokens) - 1, (), len(tokens))

    def reader(self, subject: Subject, task: Task) -> Callable[[Sequence[Member]], Reader]:
        weights, boundary = probe_weights(subject, task, self), self.reads_at.boundary
        return lambda members: ProbeReader(boundary, *weights, ~is_special(subject, _ids(subject, members)))

    def wrong(self, example: Example, read: Tensor) -> int | None:
        """A class that the probe does not find; each class is read by itself, so several may be found."""
        shown = set((read > 0).nonzero()[:, 0].tolist())
        return next((w for w in example.wrong if w not in shown), None)


class Weights(NamedTuple):
    """A fitted probe: logits = pooled stream @ weight + bias."""

    weight: Tensor
    """(d_model, classes), fp32."""
    bias: Tensor
    """(classes,)."""


@dataclass(frozen=True, eq=False)
class ProbeReader:
    """A linear probe of the mean stream over the prompt's tokens: (rows, classes)."""

    boundary: int
    weight: Tensor
    """(d_model, classes)."""
    bias: Tensor
    """(classes,)."""
    pooled: Tensor
    """(n, position) bool: the tokens that are averaged, the text's beginning left out."""

    def __call__(self, last: Last | None, stream: Tensor | None, rows: Tensor) -> Tensor:
        assert stream is not None
        return pool(stream, self.pooled[rows]) @ self.weight + self.bias

    def part(self, index: Tensor) -> ProbeReader:
        return ProbeReader(self.boundary, self.weight, self.bias, self.pooled[index])


def pool(stream: Tensor, tokens: Tensor) -> Tensor:
    """Mean of ``stream`` (rows, position, d_model) over the positions ``tokens`` (rows, position): fp32."""
    share = tokens.float() / tokens.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("rp,rpd->rd", share, stream.float())


_KNOWN: WeakKeyDictionary[Subject, dict[tuple[Probe, tuple[tuple[str, int], ...]], Weights]] = WeakKeyDictionary()


def probe_weights(subject: Subject, task: Task, readout: Probe) -> Weights:
    """The probe of a task, fitted once on its ``fit`` and ``retain`` examples of ``fit``.

    Raises:
        UsageError: a class has no example, or all are of it.
    """
    known, examples = _KNOWN.setdefault(subject, {}), [*task.examples("fit"), *task.retain("fit")]
    key = readout, tuple((e.prompt, e.answer) for e in examples)
    if key not in known:
        known[key] = _fit(subject, task, examples, readout)
    return known[key]


def _fit(subject: Subject, task: Task, examples: list[Example], readout: Probe) -> Weights:
    from sklearn.linear_model import LogisticRegression

    pooled = _pooled(subject, task, examples, subject.check(readout.reads_at).boundary).double().cpu().numpy()
    answers = np.array([e.answer for e in examples])
    mean, scale = pooled.mean(0), pooled.std() + 1e-12
    rows, biases = [], []
    for index, name in enumerate(readout.classes):
        positive = answers == index
        if not positive.any() or positive.all():
            raise UsageError(
                f"{task.name}: no probe for the class {name!r}: "
                f"{positive.sum()} of {len(answers)} examples; give more of both sides"
            )
        fitted = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=2000)
        fitted.fit((pooled - mean) / scale, positive)
        row = np.asarray(fitted.coef_)[0] / scale
        rows.append(row)
        biases.append(float(np.asarray(fitted.intercept_)[0] - row @ mean))
    weight = torch.tensor(np.stack(rows, 1), dtype=torch.float32, device=subject.device)
    return Weights(weight, torch.tensor(biases, dtype=torch.float32, device=subject.device))


@torch.no_grad()
def _pooled(subject: Subject, task: Task, examples: list[Example], boundary: int) -> Tensor:
    """(examples, d_model): mean stream of the undefended model over each prompt's tokens."""
    place = {e.id: i for i, e in enumerate(examples)}
    found = torch.zeros(len(examples), subject.d_model)
    for members in packed(encode(subject, task, examples), ROWS):
        ids = _ids(subject, members)
        passage = Passage({}, observe=frozenset({boundary}))
        with passing(subject, passage):
            subject.model(input_ids=ids, use_cache=False, logits_to_keep=1)
        mean = pool(passage.seen[boundary], ~is_special(subject, ids))
        found[[place[m.example.id] for m in members]] = mean.cpu()
    return found


def _ids(subject: Subject, members: Sequence[Member]) -> Tensor:
    return torch.tensor([m.encoded.tokens for m in members], device=subject.device)
