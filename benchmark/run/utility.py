"""Utility beside the suite's tasks: lm-eval on the live model, undefended and defended, paired by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

from benchmark.contracts.defense import Edit
from benchmark.contracts.paired import Paired
from benchmark.errors import BenchError
from benchmark.model.edits import edited
from benchmark.model.subject import Subject
from benchmark.run.fingerprint import difference
from benchmark.run.live_model import live_model
from benchmark.run.random_state import generators
from benchmark.run.utility_tasks import Documents, LoadedTask, load_tasks, silent
from benchmark.sites import Site
from benchmark.suite_utility import UtilityTask
from benchmark.values import sha

ASKED, ANSWERS = "utility_asked", "utility_tasks"
"""Keys of a fit's record: hash of what lm-eval was asked, and a number a document."""
ROWS = 32
"""Texts of one length in a forward pass."""


class Utility:
    """The utility tasks of a suite on one model; the undefended one is asked once."""

    def __init__(self, subject: Subject, entries: Sequence[UtilityTask], rows: int = ROWS) -> None:
        """Load the tasks with their data.

        Raises:
            UsageError: one cannot be loaded, or cannot be compared document by document.
        """
        self.subject, self.rows = subject, rows
        with generators(), silent():
            self.tasks = load_tasks(entries)
        self.asked = sha([version("lm-eval"), *(entry.content for entry in entries)])
        """Hash of what is asked: two measurements with the same one can be exchanged."""

    def of(self, edits: Mapping[Site, Edit]) -> list[Paired]:
        """What edits do to the documents of every task.

        Raises:
            UsageError: a document's value is not finite.
        """
        base, defended = self._base, self._under(edits)
        return [_paired(*three) for three in zip(self.tasks, base, defended, strict=True)]

    @cached_property
    def _base(self) -> list[Documents]:
        return self._under({})

    def _under(self, edits: Mapping[Site, Edit]) -> list[Documents]:
        with generators(), silent():
            model = live_model(self.subject, self.rows)
            with edited(self.subject, edits):
                return [task.of(model) for task in self.tasks]


def _paired(task: LoadedTask, base: Documents, defended: Documents) -> Paired:
    if (base.prompts, base.weights) != (defended.prompts, defended.weights):
        raise BenchError(f"{task.name}: the two models were not asked the same")
    return Paired(task.name, task.metric, task.unit, base.values, defended.values, base.weights)


def is_measured(wanted: Utility | None, fit: Mapping[str, Any]) -> bool:
    """Whether a fit's record answers what is asked."""
    return wanted is None or fit.get(ASKED) == wanted.asked


def utility_record(
    wanted: Utility | None, before: Mapping[str, Any], fingerprint: Mapping[str, Any], edits: Mapping[Site, Edit]
) -> dict[str, Any]:
    """What belongs into a fit's record, as JSON values.

    Args:
        wanted: None: nothing is asked, and what is known stays.
        before: the record of the last fit in this place; of the same fit lm-eval is not asked again.
        fingerprint: of this fit.
        edits: those of this fit.
    """
    same = "fingerprint" in before and difference(before["fingerprint"], fingerprint) is None
    known = {key: before[key] for key in (ASKED, ANSWERS) if same and key in before}
    if is_measured(wanted, known) or wanted is None:
        return known
    return {ASKED: wanted.asked, ANSWERS: [one.record for one in wanted.of(edits)]}
