"""The SAEs that a run uses on a task: each is looked at once, before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from benchmark.contracts.task import Task
from benchmark.model.streams import token_stream
from benchmark.model.subject import Subject
from benchmark.run.task_view import TaskView
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sae.health import examined
from benchmark.sites import Site


class Saes:
    """The door through which a run's defenses get SAEs, and what was found of these."""

    def __init__(self, subject: Subject, task: TaskView, before: Iterable[Mapping[str, Any]] = ()) -> None:
        """``before``: what an earlier part of the run found; the same SAE is looked at again, and what only fits of
        finished cells asked for stays."""
        self._subject, self._examples = subject, task.examples("fit")
        self._task: Task = task
        self._found = {(one["site"], one["source"]): one for one in before}
        self._seen: set[tuple[str, str]] = set()

    @property
    def found(self) -> list[Mapping[str, Any]]:
        """What was found of each, as JSON values."""
        return list(self._found.values())

    def tokens(self, site: Site) -> Tensor:
        """The stream (tokens, d_model) of the task's ``fit`` texts at a site, less their beginnings."""
        return token_stream(self._subject, self._task, self._examples, site, {})

    def opened(self, site: Site, source: str | None = None) -> Dictionary:
        """An SAE that fits and is healthy.

        Raises:
            UsageError: it is not.
        """
        dictionary = open_dictionary(self._subject, site, source)
        key = (str(site), dictionary.source)
        if key not in self._seen:
            self._found[key] = examined(self._subject, dictionary, self._task, self._examples)
            self._seen.add(key)
        return dictionary
