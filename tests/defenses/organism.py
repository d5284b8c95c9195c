"""The model organism's tasks, in small: a few examples of every split, spread evenly."""

from __future__ import annotations

from functools import cache

from benchmark.contracts.defense import Defense
from benchmark.measure.group import Group
from benchmark.model.subject import Subject
from benchmark.run.groups import Undefended, make_group
from benchmark.run.prepare import load_subject, view
from benchmark.spec import Named
from benchmark.suite_file import load_suite


@cache
def organism() -> Subject:
    return load_subject(load_suite("embedded"), "cpu", "float32")


@cache
def undefended(task: str, *, sample: int, test: int) -> Undefended:
    """A task with ``test`` test examples, and ``sample`` of every other split and of every retain set."""
    suite = load_suite("embedded").model_copy(update={"sample": sample, "limit": test})
    frozen = suite.tasks[task].frozen
    assert frozen is not None
    return Undefended(organism(), view(suite, task, test), suite.tasks[task], frozen)


def defended(few: Undefended, recipe: Defense) -> Group:
    """A recipe fitted on ``fit``, and the ``test`` examples under it."""
    return make_group(few, Named("recipe", recipe))


def shares(few: Undefended, group: Group) -> tuple[float, float]:
    """Shares of ``test`` that are suppressed and retained."""
    kept = few.retention.kept(group.fitted.edits)
    assert kept is not None
    return float(group.suppressed.sum() / group.eligible.sum()), kept
