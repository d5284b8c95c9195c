"""A task as a run sees it: under the suite's name, with as many examples as are taken, and only the splits allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.contracts.example import SPLITS, Example, Split
from benchmark.contracts.readout import Criteria, Readout, Verdict
from benchmark.contracts.task import Readings, Task
from benchmark.errors import UsageError


class TaskView(Task):
    """The same data and judge as ``task``."""

    def __init__(
        self,
        task: Task,
        name: str,
        *,
        test: int | None = None,
        sample: int | None = None,
        splits: Sequence[Split] = SPLITS,
    ) -> None:
        """``test``: how many ``test`` examples are taken; ``sample``: how many of each other split and retain set; both
        evenly spread, None: all. ``splits``: those that may be asked for."""
        self.task, self.name, self.splits = task, name, tuple(splits)
        self._test, self._sample = test, sample

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
        self._allow(split)
        return evenly(self.task.examples(split), self._test if split == "test" else self._sample)

    def retain(self, split: Split) -> Sequence[Example]:
        self._allow(split)
        return evenly(self.task.retain(split), self._sample)

    def verdict(self, read: Any, criteria: Criteria) -> Verdict:
        return self.task.verdict(read, criteria)

    def prerequisites(self, example: Example) -> Sequence[Example]:
        return self.task.prerequisites(example)

    def summary(self, base: Readings, defended: Readings) -> Mapping[str, Any]:
        return self.task.summary(base, defended)

    def for_fitting(self) -> TaskView:
        """The view of a defense that learns: it has the split ``fit`` alone."""
        return TaskView(self.task, self.name, sample=self._sample, splits=("fit",))

    def _allow(self, split: Split) -> None:
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise UsageError(
                f"{self.name}: a defense learns from the split {known} alone; take those, it asked for {split!r}"
            )


def evenly(examples: Sequence[Example], limit: int | None) -> Sequence[Example]:
    """At most ``limit`` examples, spread evenly over the whole list, so that no cluster is cut off."""
    if limit is None or limit >= len(examples):
        return examples
    return [examples[i * len(examples) // limit] for i in range(limit)]
