"""The engine of RecoveryBench: how much is a latent-space defense worth?

``evaluate`` runs an evaluation; what a task, defense or attack is made of is here too, for those who add one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmark.contracts import Attack, Attempt, Defense, Example, FittedDefense, Goal, Split, Task, ThreatModel
from benchmark.errors import BenchError, RunDirectoryError, UsageError
from benchmark.registry import register_attack, register_defense, register_task
from benchmark.sites import Site

if TYPE_CHECKING:
    from benchmark.cells.reference import readout_stream
    from benchmark.run.runner import Result, evaluate

# torch and transformers take seconds to import, and the command line must answer at once
_LATER = {
    "Result": "benchmark.run.runner",
    "evaluate": "benchmark.run.runner",
    "readout_stream": "benchmark.cells.reference",
}

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
    "readout_stream",
    "register_attack",
    "register_defense",
    "register_task",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
