"""What a suite demands of every run of it, read from the suite itself: nothing here is taken from what is verified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmark.errors import UsageError
from benchmark.names import public_id
from benchmark.registry import SUITES
from benchmark.run.header import described_suite, described_task
from benchmark.run.plan import asked_cells
from benchmark.run.prepare import view
from benchmark.suite import Suite
from benchmark.suite_file import load_suite
from benchmark.values import by_content


class Demanded(NamedTuple):
    """A suite, as far as it can be known without its model."""

    suite: Mapping[str, Any]
    """What ``run.json`` has to say of it."""
    tasks: Mapping[str, Mapping[str, Any]]
    """And of each task; SAEs are not in it."""
    weights: Mapping[str, str]
    """By task: identity of the model that its constants were measured on."""
    clusters: Mapping[str, Mapping[str, str]]
    """By task: its ``test`` examples and what each shares with others."""
    cells: Mapping[str, list[Mapping[str, Any]]]
    """By task: the cells of an attacked defense, without keys and code."""
    fresh: frozenset[str]
    """Tasks that make examples for every evaluated defense."""
    saes: Mapping[str, str]
    """Site -> the SAE there that a defense reads which names none, by content."""


def demanded(name: str) -> Demanded:
    """Of a registered suite.

    Raises:
        UsageError: there is none of this name, its data cannot be read, or its constants are not frozen.
    """
    if name not in SUITES.names():
        raise UsageError(
            f"the suite {name!r} is not registered here, so that nobody can say what it demands; register it in the "
            f"group recoverybench.suites; there are: {', '.join(SUITES.names())}"
        )
    suite = load_suite(name)
    loose = [task for task, settings in suite.tasks.items() if settings.frozen is None or settings.unsettled]
    if loose or not suite.tasks:
        raise UsageError(
            f"the suite {name} has no frozen constants of {', '.join(loose) or 'any task'}, and no scores that "
            f"compare; measure them on the real weights: bench plan --suite {name} --freeze"
        )
    return _demanded(suite)


def _demanded(suite: Suite) -> Demanded:
    views = {name: view(suite, name) for name in suite.tasks}
    models = sorted({name for settings in suite.tasks.values() for name in settings.budgets})
    frozen = {name: settings.frozen for name, settings in suite.tasks.items() if settings.frozen is not None}
    return Demanded(
        suite=described_suite(suite),
        tasks={name: described_task(suite.tasks[name], views[name], models, frozen[name]) for name in views},
        weights={name: constants.weights_sha for name, constants in frozen.items()},
        clusters={
            name: {public_id(e.id): public_id(e.cluster) for e in task.examples("test")} for name, task in views.items()
        },
        cells={name: [cell.describe() for cell in asked_cells(suite, task, "")] for name, task in views.items()},
        fresh=frozenset(name for name, task in views.items() if task.fresh("any", 1)),
        saes={site: by_content(sources[0]) for site, sources in suite.saes.items()},
    )
