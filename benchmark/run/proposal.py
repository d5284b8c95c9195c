"""Budgets for a task that nobody has tried: a grid up to where the undefended model is steered (METHOD section 9)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.registry import threat
from benchmark.suite import TaskSettings

MOST = 6
"""Budgets of a threat model."""


def grid(candidates: Sequence[float], ceiling: float) -> tuple[float, ...]:
    """Every second candidate from the ceiling down, at most ``MOST``, cut to two figures; none: all are above it.

    Args:
        candidates: of a ceiling, ascending; where they lie a third of an octave apart the grid is geometric.
    """
    below = [candidate for candidate in candidates if candidate <= ceiling * (1 + 1e-9)]
    return tuple(dict.fromkeys(_cut(candidate) for candidate in reversed(below[::-2][:MOST])))


def _cut(value: float) -> float:
    """The first two figures: never above the value, which a rounded one may be."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit + 1e-9) * unit:.2g}")


def budgets(settings: TaskSettings, ceilings: Mapping[str, float | None]) -> dict[str, tuple[float, ...]]:
    """The budgets of a task, those that are ``auto`` by the ceilings; a threat model without any is left out."""
    proposed = {name: grid(threat(name).ceilings, ceilings.get(name) or 0.0) for name in settings.unsettled}
    return {name: found for name, own in settings.budgets.items() if (found := own or proposed[name])}


def settled(
    task: Task, settings: TaskSettings, ceilings: Mapping[str, float | None], tell: Callable[[str], None]
) -> TaskSettings:
    """The settings with all budgets; what is left out is told.

    Raises:
        UsageError: no threat model is left.
    """
    found = budgets(settings, ceilings)
    left_out = [f"{n}: {_why(task, n, ceilings.get(n))}" for n in settings.budgets if n not in found]
    if not found:
        raise UsageError(
            f"task {task.name}: no threat model has a budget ({'; '.join(left_out)}); give budgets yourself, or "
            "another task or site"
        )
    for line in left_out:
        tell(f"{task.name}: left out {line}")
    return settings.model_copy(update={"budgets": found})


def _why(task: Task, name: str, ceiling: float | None) -> str:
    if ceiling is None:
        return threat(name).applies(task) or "the suite has no attack that searches under it without a constraint"
    smallest = threat(name).ceilings[0]
    return f"even {smallest:g}, the smallest budget tried, steers the undefended model to a wrong target too often"
