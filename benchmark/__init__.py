"""The engine of RecoveryBench: how much is a latent-space defense worth?

``evaluate`` runs an evaluation; what a task, defense or attack is made of is here too, for those who add one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmark.contracts.attack import Attack, Attempt
from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.contracts.example import Example, Goal, Split
from benchmark.contracts.readout import Criteria, Readout, Verdict
from benchmark.contracts.task import Task
from benchmark.contracts.threat import Threat
from benchmark.errors import BenchError, RunDirectoryError, UsageError
from benchmark.registry import register_attack, register_defense, register_task, register_threat
from benchmark.sites import Site

if TYPE_CHECKING:
    from benchmark.run.request import Request
    from benchmark.run.runner import Result, evaluate

# torch and transformers take seconds to import, and the command line must answer at once
_LATER = {
    "Request": "benchmark.run.request",
    "Result": "benchmark.run.runner",
    "evaluate": "benchmark.run.runner",
}

__all__ = [
    "Attack",
    "Attempt",
    "BenchError",
    "Criteria",
    "Defense",
    "Example",
    "FittedDefense",
    "Fitting",
    "Goal",
    "Readout",
    "Request",
    "Result",
    "RunDirectoryError",
    "Site",
    "Split",
    "Task",
    "Threat",
    "UsageError",
    "Verdict",
    "evaluate",
    "register_attack",
    "register_defense",
    "register_task",
    "register_threat",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
