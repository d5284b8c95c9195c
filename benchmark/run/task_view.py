"""A task as a run sees it, under the suite's name and with as many examples as are taken; and as a defense sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from benchmark.contracts.example import Example, Split
from benchmark.contracts.paired import Paired
from benchmark.contracts.readout import Criteria, Readout, Verdict
from benchmark.contracts.task import Readings, Task
from benchmark.errors import BenchError, UsageError
from benchmark.model.pack import make_packs
from benchmark.model.subject import Subject
from benchmark.sealed import refuse_while_learning

FEW = 8
"""Examples of each split and retain set, where some are only tried on."""


class TaskView(Task):
    """The same data and judge as ``task``."""

    def __init__(
        self, task: Task, name: str, *, test: int | None = None, sample: int | None = None, limit: int | None = None
    ) -> None:
        """``test``: how many ``test`` examples the suite takes; ``sample``: how many of each other split and retain
        set; both evenly spread, None: all. ``limit``: how many of what the suite takes of ``test``, whose constants
        know of no others."""
        self.task, self.name = task, name
        self._test, self._sample, self._limit = test, sample, limit

    @property
    def kind(self) -> type[Task]:
        """What kind of task it is."""
        return type(self.task)

    @property
    def version(self) -> int:  # type: ignore[override]
        return self.task.version

    @property
    def readout(self) -> Readout:  # type: ignore[override]
        return self.task.readout

    def examples(self, split: Split) -> Sequence[Example]:
        _allow(split)
        if split == "test":
            return thinned(evenly(self.task.examples(split), self._test), self._limit)
        return evenly(self.task.examples(split), self._sample)

    def retain(self, split: Split) -> Sequence[Example]:
        _allow(split)
        return evenly(self.task.retain(split), self._sample)

    def fresh(self, key: str, count: int) -> Sequence[Example]:
        refuse_while_learning("fresh examples")
        return self.task.fresh(key, min(count, len(self.examples("test"))))

    def verdict(self, read: Any, criteria: Criteria) -> Verdict:
        return self.task.verdict(read, criteria)

    def prerequisites(self, example: Example) -> Sequence[Example]:
        return self.task.prerequisites(example)

    def summary(self, base: Readings, defended: Readings) -> Mapping[str, Any]:
        return self.task.summary(base, defended)

    def side_effects(self, base: Readings, defended: Readings) -> Sequence[Paired]:
        return self.task.side_effects(base, defended)

    def for_fitting(self) -> FittingTask:
        """What a defense that learns has of it."""
        return FittingTask(self)


class FittingTask(Task):
    """What a defense may see of a task: its ``fit`` examples and its judge. No attribute leads to the whole task."""

    def __init__(self, view: TaskView) -> None:
        self.name, self.readout = view.name, view.readout
        self._examples, self._retain = tuple(view.examples("fit")), tuple(view.retain("fit"))
        self._needed = {e.id: tuple(view.prerequisites(e)) for e in (*self._examples, *self._retain)}
        self._judge = _judge_of(view)

    def examples(self, split: Split) -> Sequence[Example]:
        self._allow(split)
        return self._examples

    def retain(self, split: Split) -> Sequence[Example]:
        self._allow(split)
        return self._retain

    def verdict(self, read: Any, criteria: Criteria) -> Verdict:
        return self._judge(read, criteria)

    def prerequisites(self, example: Example) -> Sequence[Example]:
        return self._needed.get(example.id, ())

    def for_fitting(self) -> FittingTask:
        """The same."""
        return self

    def _allow(self, split: Split) -> None:
        if split != "fit":
            raise UsageError(
                f"{self.name}: a defense learns from the split fit alone; take that one, it asked for {split!r}"
            )


def _judge_of(view: TaskView) -> Callable[[Any, Criteria], Verdict]:
    return lambda read, criteria: view.verdict(read, criteria)


def _allow(split: Split) -> None:
    if split != "fit":
        refuse_while_learning(repr(split))


def evenly(examples: Sequence[Example], limit: int | None) -> Sequence[Example]:
    """At most ``limit`` examples, spread evenly over the whole list, so that no cluster is cut off."""
    if limit is None or limit >= len(examples):
        return examples
    return [examples[i * len(examples) // limit] for i in range(limit)]


def thinned(examples: Sequence[Example], limit: int | None) -> Sequence[Example]:
    """At most ``limit`` examples, of each equal stretch of the list the one that chance has it: in steps of one length
    all of them could be alike, where the list goes round and round its classes."""
    if limit is None or limit >= len(examples):
        return examples
    ends = [i * len(examples) // limit for i in range(limit + 1)]
    return [min(examples[a:b], key=lambda e: hashlib.sha256(e.id.encode()).digest()) for a, b in pairwise(ends)]


def few(subject: Subject, task: TaskView, *, test: int) -> tuple[TaskView, int]:
    """The task with ``test`` examples and, of every other set, as few as its readout can do with, which may be trained
    on them; and how many those are."""
    for sample in (FEW, 4 * FEW):
        found = TaskView(task.task, task.name, test=test, sample=sample)
        with suppress(BenchError):
            make_packs(subject, found, found.examples("test")[:1], 1)
            return found, sample
    return TaskView(task.task, task.name, test=test, sample=16 * FEW), 16 * FEW
