"""The interface of executors, and which one a request asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from benchmark.run.work import Job, Outcome


class Done(NamedTuple):
    """A job that is over."""

    job: Job
    outcome: Outcome


class Executor(Protocol):
    """Does jobs, in no order that anybody may count on."""

    apart: bool
    """In other processes: nobody here hears of a cell but by its file."""

    def submit(self, job: Job) -> None:
        """Have a job done."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a job that was submitted is not over."""
        ...

    def wait(self) -> Sequence[Done]:
        """Jobs that are over now; after a while also none."""
        ...

    def close(self) -> None:
        """End everything, done or not."""
        ...


class Queue:
    """Jobs to be done: those of a task that was begun before the beginnings of others."""

    def __init__(self) -> None:
        self._begun: deque[Job] = deque()
        self._begin: deque[Job] = deque()

    def put(self, job: Job, *, first: bool = False) -> None:
        """``first``: it was begun before, and lost."""
        queue = self._begin if job.kind == "constants" else self._begun
        queue.appendleft(job) if first else queue.append(job)

    def take(self) -> Job:
        """The next one."""
        return (self._begun or self._begin).popleft()

    def __len__(self) -> int:
        return len(self._begun) + len(self._begin)
