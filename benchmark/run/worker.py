"""What a process does that works for a run of another: the request and its model once, then job after job."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from benchmark.errors import BenchError, UsageError
from benchmark.files import write_atomically
from benchmark.run.bill import Bill
from benchmark.run.listener import Silent
from benchmark.run.prepare import prepare
from benchmark.run.request import Request
from benchmark.run.store import Store
from benchmark.run.work import Job, Outcome, Work

EVENTS = "events.jsonl"
ORDER = ("private", "fits", "cells")
"""In which files are put into a run directory: a cell names its perturbations, and comes after them."""


class Orders(NamedTuple):
    """What a worker is told at its start."""

    request: Request
    identity: str
    """Of the plan, which it has to come to by itself."""
    directory: str
    """Of the run, where it was begun."""
    mark: str
    """A line of that directory's events; who does not find it sees another directory, or none."""
    threads: int | None


class _Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Worker:
    """Does jobs of a run; its results lie in the run directory, or go back with the outcome."""

    def __init__(self, orders: Orders) -> None:
        """Load the model.

        Raises:
            UsageError: something is missing on this machine, or it makes another plan than the one of the run.
        """
        if orders.threads is not None:
            torch.set_num_threads(orders.threads)
        self._heard = _Heard()
        prepared = prepare(orders.request, self._heard.note)
        if prepared.plan.identity != orders.identity:
            raise UsageError(
                f"{platform.node()} makes another plan of this request than the machine that began the run: its code, "
                "data or model differ; update one of them, so that both have the same"
            )
        self.shares = _sees(Path(orders.directory), orders.mark)
        self._own = None if self.shares else tempfile.TemporaryDirectory()
        if self._own is None:
            store = Store(Path(orders.directory))
        else:
            store = Store(Path(self._own.name) / "run").open(prepared.plan.describe())
        self._work = Work(prepared, store, self._heard, Bill())

    def close(self) -> None:
        """Leave nothing behind."""
        if self._own is not None:
            self._work.store.close()
            self._own.cleanup()

    def do(self, job: Job, known: Mapping[str, bytes]) -> Outcome:
        """Do a job.

        Args:
            known: files of the run that it goes on from, where this worker does not see its directory.
        """
        self._work.took = Bill()
        self._heard.notes.clear()
        if self._own is not None:
            put(self._work.store.root, known)
        try:
            outcome = self._work.do(job)
        except BenchError as error:
            outcome = Outcome(raised=error)
        outcome.took, outcome.notes = self._work.took, list(self._heard.notes)
        if self._own is not None:
            made = taken(self._work.store.root)
            outcome.files = {name: content for name, content in made.items() if known.get(name) != content}
        return outcome


def _sees(directory: Path, mark: str) -> bool:
    with suppress(OSError):
        return mark in (directory / EVENTS).read_text("utf-8", errors="replace")
    return False


def _place(name: str) -> int:
    folder = name.partition("/")[0]
    return ORDER.index(folder) if folder in ORDER else len(ORDER)


def taken(root: Path) -> dict[str, bytes]:
    """What a job has left in a run directory of its own, by place; it is not there any more."""
    files = [file for folder in ORDER for file in sorted((root / folder).glob("*"))]
    files += [root / name for name in ("stability.json", EVENTS) if (root / name).is_file()]
    found = {file.relative_to(root).as_posix(): file.read_bytes() for file in files}
    for file in files:
        file.unlink()
    return found


def put(root: Path, files: Mapping[str, bytes]) -> None:
    """Put files into a run directory, each whole or not at all; events are added to those that are there."""
    for name, content in sorted(files.items(), key=lambda file: _place(file[0])):
        if name == EVENTS:
            with (root / EVENTS).open("ab") as file:
                file.write(content)
        else:
            write_atomically(root / name, lambda draft, content=content: draft.write_bytes(content))
