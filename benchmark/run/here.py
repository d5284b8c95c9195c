"""One job after another, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.run.executor import Done, Queue
from benchmark.run.work import Job, Work


class Here:
    """Does every job when it is waited for."""

    apart = False

    def __init__(self, work: Work) -> None:
        self._work, self._queue = work, Queue()

    def submit(self, job: Job) -> None:
        self._queue.put(job)

    @property
    def busy(self) -> bool:
        return len(self._queue) > 0

    def wait(self) -> Sequence[Done]:
        job = self._queue.take()
        return [Done(job, self._work.do(job))]

    def close(self) -> None:
        """Nothing is left behind."""
