"""Targeted probe perturbation (SAEBench; METHOD section 6, arXiv 2606.18322 section 4.1), on anybody's labelled texts.

    text,label
    "In Tarby lives Mary, who keeps a bandage and a syringe at home. Every day Mary goes to the clinic.",nurse

        base      probe logit of "nurse" above 0
        defended  at or below 0, while the classes that the defense is not about are still read off

The probe sees the mean stream over the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmark.contracts.example import Example, Split
from benchmark.contracts.readout import Criteria, Verdict
from benchmark.contracts.task import Readings
from benchmark.errors import UsageError
from benchmark.readouts.probe import Probe
from benchmark.registry import register_task
from benchmark.sites import Site
from tasks.data import Columns, Data, DataTask, Examples, Row, Sets

COLUMNS = Columns(("text", "label"), public={"text": ("hard_text",), "label": ("profession", "category")})
"""As Bias in Bios and the Amazon reviews of SAEBench have them, too."""


@register_task("probe")
@dataclass(frozen=True, eq=False, kw_only=True)
class ProbeTask(DataTask):
    """Behavior: the probe's one-vs-rest logit of the text's class is above 0.

    Columns: text, label (or hard_text; profession, category); and, if there are, cluster, id, split. Texts of the
    classes that are no targets are the retain set.
    """

    data: Data
    """Where its examples come from: source, columns, filters, splits, shares, shared_clusters, limit."""
    site: str
    """Where the probe reads the stream."""
    labels: tuple[str, ...] = ()
    """Names of the labels, where the data has them as numbers from 0; none: it has names."""
    classes: tuple[str, ...] = ()
    """Labels, in the order of the probe's logits; none: all of the data, sorted."""
    targets: tuple[str, ...] = ()
    """Classes that a defense is to hide; none: the first half."""

    def __post_init__(self) -> None:
        Site.parse(self.site)

    @cached_property
    def readout(self) -> Probe:
        return Probe(self.site, self._classes)

    def verdict(self, read: Tensor, criteria: Criteria) -> Verdict:
        own = read.gather(1, criteria.answer[:, None])[:, 0]
        rows = zip((own > 0).tolist(), read.tolist(), strict=True)
        labels = ["class" if hit else self._other(row) for hit, row in rows]
        return Verdict(labels, read.gather(1, criteria.target[:, None])[:, 0])

    def summary(self, base: Readings, defended: Readings) -> Mapping[str, Any]:
        """Drops of the balanced one-vs-rest accuracy in [-1, 1]: of the target classes, of the others, and the score.

        SAEBench's score, but of one edit against all targets at once. A class without examples is left out; null: none
        is left.
        """
        before, after = _accuracies(base), _accuracies(defended)
        drops = {c: before[c] - after[c] for c in before if c in after}
        intended, unintended = _mean(drops, self._targets), _mean(drops, self._others)
        score = None if intended is None or unintended is None else intended - unintended
        return {
            "intended_drop": intended,
            "unintended_drop": unintended,
            "tpp_score": score,
            "accuracy_drop": {self._classes[c]: drop for c, drop in drops.items()},
        }

    def fresh(self, key: str, count: int) -> Sequence[Example]:
        made = self._examples(self.data.fresh(COLUMNS, self._checked, key, 2 * count))
        return [e for e in made if e.answer in self._targets][:count]

    @cached_property
    def _rows(self) -> Mapping[Split, Sequence[Row]]:
        return self.data.read(COLUMNS, self._checked)

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        found = self.classes or tuple(sorted({self._label(row) for rows in self._rows.values() for row in rows}))
        if len(set(found)) < max(len(found), 2):
            raise UsageError(
                f"{self.data.source}: the classes are {', '.join(found)}; a probe needs two, all different"
            )
        return found

    @cached_property
    def _targets(self) -> tuple[int, ...]:
        """Indices of the classes that a defense is to hide."""
        targets = self.targets or self._classes[: len(self._classes) // 2]
        unknown = [name for name in targets if name not in self._classes]
        if unknown or set(targets) == set(self._classes):
            raise UsageError(
                f"{self.data.source}: the targets are {', '.join(targets)}; name some, and not all, of the classes"
                f" {', '.join(self._classes)}"
            )
        return tuple(i for i, name in enumerate(self._classes) if name in targets)

    @cached_property
    def _others(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self._classes)) if i not in self._targets)

    @cached_property
    def _sets(self) -> Sets:
        found: Examples = {split: self._examples(rows) for split, rows in self._rows.items()}
        return Sets(_answered(found, self._targets), _answered(found, self._others))

    def _examples(self, rows: Sequence[Row]) -> list[Example]:
        met = [0] * len(self._classes)
        found = []
        for row in rows:
            answer = self._classes.index(self._label(row))
            found.append(self._example(row, answer, met[answer]))
            met[answer] += 1
        return found

    def _example(self, row: Row, answer: int, number: int) -> Example:
        """The ``number``-th of its class. Wrong targets: classes that no defense is about first, turned so that each is
        first equally often."""
        turn = number % len(self._others)
        wrong = [*self._others[turn:], *self._others[:turn], *self._targets]
        choices = tuple(f" {name}" for name in self._classes)
        return Example(row.id, row.cluster, row.text("text"), choices, answer, tuple(c for c in wrong if c != answer))

    def _checked(self, row: Row) -> Row:
        label = self._label(row)
        if self.classes and label not in self.classes:
            known = ", ".join(self.classes)
            raise row.error(f"the label {label!r} is none of {known}; add it, or leave it out by `filters`")
        return row

    def _label(self, row: Row) -> str:
        """The name of the row's label."""
        said = row.name("label")
        if not self.labels:
            return said
        if not said.isdecimal() or int(said) >= len(self.labels):
            raise row.error(
                f"the label {said!r} is no number from 0 to {len(self.labels) - 1}, of which `labels` has the names; "
                "add its name there, or leave the row out by `filters`"
            )
        return self.labels[int(said)]

    def _other(self, row: list[float]) -> str:
        """What the probe says instead."""
        best = max(range(len(row)), key=row.__getitem__)
        return self._classes[best] if row[best] > 0 else "none"


def _answered(examples: Examples, classes: Sequence[int]) -> Examples:
    """The examples of some classes."""
    return {split: [e for e in some if e.answer in classes] for split, some in examples.items()}


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


def _mean(drops: Mapping[int, float], classes: Sequence[int]) -> float | None:
    known = [drops[c] for c in classes if c in drops]
    return sum(known) / len(known) if known else None
