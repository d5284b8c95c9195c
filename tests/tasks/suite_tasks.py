"""The tasks of the shipped suites, as a run makes them."""

from __future__ import annotations

from benchmark.contracts.task import Task
from benchmark.spec import resolve_task
from benchmark.suite_file import load_suite

NAMES = ("ioi", "unlearning", "unlearning-letter", "tpp", "refusal", "refusal-open-ended")


def suite_task(name: str) -> Task:
    """A task of the embedded suite or of its variants, by its name there."""
    settings = {**load_suite("variants").tasks, **load_suite("embedded").tasks}[name]
    return resolve_task(settings.kind or name, settings.settings)
