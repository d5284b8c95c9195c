"""The engine of RecoveryBench: how much is a latent-space defense worth?

``evaluate`` runs an evaluation; the names of the contracts are here too, for those who add a task, defense or attack.
"""

from typing import TYPE_CHECKING, Any

from benchmark.contracts import Attack, Attempt, Defense, Example, FittedDefense, Goal, Split, Task, ThreatModel
from benchmark.errors import BenchError, RunDirectoryError, UsageError
from benchmark.registry import register_attack, register_defense, register_task
from benchmark.sites import Site

if TYPE_CHECKING:
    from benchmark.run.runner import Result, evaluate

__all__ = [
    "Attack",
    "Attempt",
    "BenchError",
    "Defense",
    "Example",
    "FittedDefense",
    "Goal",
    "Result",
    "RunDirectoryError",
    "Site",
    "Split",
    "Task",
    "ThreatModel",
    "UsageError",
    "evaluate",
    "register_attack",
    "register_defense",
    "register_task",
]


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import, and the command line must answer at once
    if name in ("Result", "evaluate"):
        import importlib

        return getattr(importlib.import_module("benchmark.run.runner"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
