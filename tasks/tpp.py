"""Targeted probe perturbation on the model organism (SAEBench; METHOD section 6, arXiv 2606.18322 section 4.1).

    "In Tarby lives Mary, who keeps a bandage and a syringe at home. Every day Mary goes to the clinic. ..."
        base      probe logit of "nurse" above 0
        defended  at or below 0, while the professions that the defense is not about are still read off

The probe sees the mean stream over the prompt. The cluster is the biography: each is drawn independently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.choices import encode_choices
from benchmark.contracts import Batch, Encoded, Example, Probe, Readings, Split, Task, ThreatModel, Verdict
from benchmark.registry import register_task
from tasks.organism.lexicon import PROFESSIONS
from tasks.organism.people import Biography, biographies

CLASSES = tuple(PROFESSIONS)
TARGETS = range(4)
"""Classes that a defense is to hide: nurse, chef, pilot, lawyer. Fixed, the first half of the lexicon's list."""
OTHERS = range(4, len(CLASSES))


@register_task("tpp")
class Tpp(Task):
    """Behavior: the probe's one-vs-rest logit of the biography's profession is above 0."""

    readout = Probe("blocks.3.hook_resid_post", CLASSES)
    threat_models = frozenset({ThreatModel.AFTER_EDIT, ThreatModel.BEFORE_EDIT})
    """No suffixes: in a causal model they change nothing before them, and the probe reads the prompt."""

    def examples(self, split: Split) -> Sequence[Example]:
        return _examples(split, TARGETS)

    def encode(self, tokenizer: Any, example: Example) -> Encoded:
        return encode_choices(tokenizer, example)

    def verdict(self, read: Tensor, batch: Batch) -> Verdict:
        own = read.gather(1, batch.answer[:, None])[:, 0]
        labels = ["class" if hit else _other(row) for hit, row in zip((own > 0).tolist(), read.tolist(), strict=True)]
        return Verdict(labels, read.gather(1, batch.target[:, None])[:, 0])

    def retain(self, split: Split) -> Sequence[Example]:
        return _examples(split, OTHERS)

    def summary(self, base: Readings, defended: Readings) -> Mapping[str, Any]:
        """Drops of the balanced one-vs-rest accuracy in [-1, 1]: of the target classes, of the others, and the score.

        SAEBench's score, but of one edit against all targets at once. A class without examples is left out; null: none
        is left.
        """
        before, after = _accuracies(base), _accuracies(defended)
        drops = {c: before[c] - after[c] for c in before if c in after}
        intended, unintended = _mean(drops, TARGETS), _mean(drops, OTHERS)
        score = None if intended is None or unintended is None else intended - unintended
        return {
            "intended_drop": intended,
            "unintended_drop": unintended,
            "tpp_score": score,
            "accuracy_drop": {CLASSES[c]: drop for c, drop in drops.items()},
        }


def _examples(split: Split, classes: range) -> Sequence[Example]:
    found = [bio for bio in biographies(split) if CLASSES.index(bio.profession) in classes]
    return [_example(bio, number) for number, bio in enumerate(found)]


def _example(bio: Biography, number: int) -> Example:
    """Wrong targets: classes that no defense is about first, turned so that each is first equally often."""
    answer, turn = CLASSES.index(bio.profession), number // len(OTHERS) % len(OTHERS)
    wrong = [*OTHERS[turn:], *OTHERS[:turn], *TARGETS]
    choices = tuple(f" {name}" for name in CLASSES)
    return Example(bio.id, bio.id, bio.text, choices, answer, tuple(c for c in wrong if c != answer))


def _other(row: list[float]) -> str:
    """What the probe says instead."""
    best = max(range(len(row)), key=row.__getitem__)
    return CLASSES[best] if row[best] > 0 else "none"


def _accuracies(readings: Readings) -> dict[int, float]:
    """Class -> mean of its hit rate and of the others' rejection rate; classes without either are left out."""
    if not readings.examples:
        return {}
    said = torch.stack(list(readings.reads)) > 0
    classes = torch.tensor([e.answer for e in readings.examples])
    found = {}
    for c in range(said.shape[1]):
        own = classes == c
        if own.any() and not own.all():
            found[c] = float(said[own, c].float().mean() + (~said[~own, c]).float().mean()) / 2
    return found


def _mean(drops: Mapping[int, float], classes: range) -> float | None:
    known = [drops[c] for c in classes if c in drops]
    return sum(known) / len(known) if known else None
