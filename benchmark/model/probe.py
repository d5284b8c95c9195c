"""Linear probes of the mean stream over a prompt, each class against the rest, fitted on the undefended model.

One fit for a (model, task): a defense is judged by a probe that has never seen it.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from benchmark.contracts import Example, Probe, Task
from benchmark.errors import UsageError
from benchmark.model.edits import Passage, is_special, passing
from benchmark.model.pack import encode, packed
from benchmark.model.readers import pool
from benchmark.model.subject import Subject
from benchmark.sites import Site

ROWS = 128
INVERSE_PENALTY = 1.0
"""scikit-learn's C of the logistic regression on standardised inputs."""


class Weights(NamedTuple):
    """A fitted probe: logits = pooled stream @ weight + bias."""

    weight: Tensor
    """(d_model, classes), fp32."""
    bias: Tensor
    """(classes,)."""


_KNOWN: WeakKeyDictionary[Subject, dict[tuple[str, Probe], Weights]] = WeakKeyDictionary()


def probe_weights(subject: Subject, task: Task, readout: Probe) -> Weights:
    """The probe of a task, fitted once on its ``fit`` and ``retain`` examples of ``fit``; an example's class is its
    ``answer``.

    Raises:
        UsageError: a class has no example, or all are of it.
    """
    known = _KNOWN.setdefault(subject, {})
    key = (task.name, readout)
    if key not in known:
        examples = [*task.examples("fit"), *task.retain("fit")]
        known[key] = _fit(subject, task, examples, readout)
    return known[key]


def _fit(subject: Subject, task: Task, examples: list[Example], readout: Probe) -> Weights:
    from sklearn.linear_model import LogisticRegression

    pooled = _pooled(subject, task, examples, subject.check(Site.parse(readout.site)).boundary).double().cpu().numpy()
    answers = np.array([e.answer for e in examples])
    mean, scale = pooled.mean(0), pooled.std() + 1e-12
    rows, biases = [], []
    for index, name in enumerate(readout.classes):
        positive = answers == index
        if not positive.any() or positive.all():
            raise UsageError(
                f"{task.name}: no probe for the class {name!r}: {positive.sum()} of {len(answers)} examples"
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
        ids = torch.tensor([m.encoded.tokens for m in members], device=subject.device)
        passage = Passage({}, observe=frozenset({boundary}))
        with passing(subject, passage):
            subject.model(input_ids=ids, use_cache=False, logits_to_keep=1)
        mean = pool(passage.seen[boundary], ~is_special(subject, ids))
        found[[place[m.example.id] for m in members]] = mean.cpu()
    return found
