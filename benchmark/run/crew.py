"""What executors of several workers have in common: who does what, and whose job is done once more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from benchmark.run.executor import Done, Queue
from benchmark.run.plan import Plan
from benchmark.run.store import Store
from benchmark.run.work import Job, Outcome
from benchmark.run.worker import put

TRIES = 3
"""Workers that a job is given to, one after another, where they are lost over it."""

W = TypeVar("W", bound=Hashable)
"""A worker."""


class Crew(Generic[W]):
    """Jobs and the workers that have them."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._plan = store, plan
        self._queue = Queue()
        self._given: dict[W, Job] = {}
        self._lost: Counter[Job] = Counter()

    def submit(self, job: Job) -> None:
        """Have a job done."""
        self._queue.put(job)

    @property
    def busy(self) -> bool:
        """Whether a job is not over."""
        return bool(self._given) or len(self._queue) > 0

    def for_idle(self, workers: Sequence[W]) -> Iterator[tuple[W, Job]]:
        """The next jobs, for workers that have none."""
        for worker in workers:
            if worker not in self._given and len(self._queue):
                self._given[worker] = self._queue.take()
                yield worker, self._given[worker]

    def known(self, job: Job) -> Mapping[str, bytes]:
        """Files that a worker needs for a job who does not see the run directory: what was finished of it before."""
        mine = [c.key for c in self._plan.cells if (c.task, c.defense) == (job.task, job.defense)]
        files = [file for key in mine if self._store.finished(key) for file in self._store.files_of(key)]
        files += self._store.fits
        return {file.relative_to(self._store.root).as_posix(): file.read_bytes() for file in files}

    def over(self, worker: W, outcome: Outcome) -> Done:
        """A worker is done with its job."""
        put(self._store.root, outcome.files)
        return Done(self._given.pop(worker), outcome)

    def gone(self, worker: W, why: str) -> list[Done]:
        """A worker is lost: its job is done by another, unless several were lost over it."""
        job = self._given.pop(worker, None)
        if job is None:
            return []
        self._lost[job] += 1
        if self._lost[job] < TRIES:
            self._queue.put(job, first=True)
            return []
        return [Done(job, Outcome(lost=f"{self._lost[job]} workers were lost over it; the last one: {why}"))]
