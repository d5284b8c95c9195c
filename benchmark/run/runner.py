"""Run a plan: fit every defense on every task, attack, and leave rows. ``evaluate`` is the Python entry point."""

from __future__ import annotations

import datetime
from collections.abc import Container, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmark.contracts.row import SCHEMA
from benchmark.errors import RunDirectoryError, UsageError
from benchmark.files import file_name
from benchmark.run.bill import Bill, compared, foretold, peak_mb
from benchmark.run.estimate import estimate
from benchmark.run.executor import Executor
from benchmark.run.executors import chosen
from benchmark.run.header import header
from benchmark.run.listener import Listener, Silent
from benchmark.run.memory import enough_memory
from benchmark.run.needs import connection
from benchmark.run.ownership import read_json
from benchmark.run.plan import Plan
from benchmark.run.prepare import Prepared, prepare
from benchmark.run.probe import probe
from benchmark.run.request import Given, Request, Status
from benchmark.run.signals import courteous
from benchmark.run.store import Store
from benchmark.run.work import Job, Outcome, Work
from benchmark.suite import Frozen


@dataclass(frozen=True)
class Result:
    """A finished run."""

    directory: Path
    status: Status
    """complete | partial (some cells failed and will be tried again)."""
    failures: tuple[str, ...] = ()
    """Of a partial run: what failed, and why, one line each."""
    failed: int = 0
    """Cells that failed."""

    @property
    def rows(self) -> pa.Table:
        """All rows, in the order of the plan."""
        cells = read_json(self.directory / "plan.json").get("cells", [])
        store = Store(self.directory)
        parts = [store.read(c["key"]) for c in cells if store.has(c["key"])]
        return pa.concat_tables(parts) if parts else SCHEMA.empty_table()

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame."""
        return self.rows.to_pandas()


def evaluate(
    request: Request | Given | None = None, *, listener: Listener | None = None, probe_s: float = 0.0, **options: Any
) -> Result:
    """Evaluate defenses against a suite's attacks; the same call again resumes.

    Args:
        request: the whole request; or its ``defense``: registered names, ``file.py:Class``, spec files, or ``Defense``
            objects.
        listener: is told what happens.
        probe_s: seconds that are spent on an estimate of the time before anything is run; 0: there is none.
        options: the other fields of ``Request``, which documents them: ``suite``, ``tasks``, ``attacks``, ``limit``,
            ``output_dir``, ``seed`` and so on.

    Raises:
        UsageError: something asked for does not exist or does not fit; nothing was run.
        RunDirectoryError: ``output_dir`` cannot be used; nothing in it was changed.
        KeyboardInterrupt: Ctrl-C, or a signal to end (``Stopped``, which names it); what is finished is saved.
    """
    if isinstance(request, Request):
        if options:
            raise UsageError(f"give either a whole request or its options, not both: {', '.join(options)}")
    else:
        request = Request.make({"defense": request, **options}, "evaluate")
    listener = listener or Silent()
    with courteous(), enough_memory(), connection(request.offline):
        prepared = prepare(request, listener.note)
        _ = prepared.utility  # what cannot be loaded is told before any work starts
        directory = request.output_dir or default_directory(prepared.plan)
        store = Store(directory).open(prepared.plan.describe())
        try:
            return _Run(prepared, store, listener).run(probe_s)
        finally:
            store.close()


def default_directory(plan: Plan) -> Path:
    """runs/<suite>__<first defense>__<plan>: the same command finds its own directory again."""
    return Path("runs") / f"{file_name(plan.suite.name, next(iter(plan.defenses)))}__{plan.identity[:8]}"


class _Run:
    """The state of one run; ``run`` is called once."""

    def __init__(self, prepared: Prepared, store: Store, listener: Listener) -> None:
        self.prepared, self.store, self.listener = prepared, store, listener
        self.plan, self.subject = prepared.plan, prepared.subject
        self.frozen: dict[str, Frozen] = {}
        self.saes: dict[str, Sequence[Mapping[str, Any]]] = {}
        self.open: dict[str, set[str]] = {}
        """By task that was begun, the defenses that are not done."""
        self.told: set[str] = set()
        """Keys of cells that the listener was told of here."""
        self.failed = 0
        self.failures: list[str] = []
        self.started = _now()
        self.took = Bill()
        self.expected: Mapping[str, Any] | None = None
        self.earlier: Mapping[str, Any] = {}

    def run(self, probe_s: float = 0.0) -> Result:
        self._take_up()
        for cell in self.plan.cells:
            self.store.check_code(cell.key, cell.code)
        self.listener.started(self.plan, sum(self.store.finished(c.key) for c in self.plan.cells))
        self._foresee(probe_s)
        self._header("running")
        try:
            self._jobs()
        except BaseException:
            with suppress(RunDirectoryError):  # nothing can be written on a full disk, which is what is told then
                self._header("interrupted")
            raise
        status: Status = "partial" if self.failed else "complete"
        self._header(status)
        if self.expected is not None:
            self.listener.note(compared(self.expected, self.took.describe()))
        return Result(self.store.root, status, tuple(self.failures), self.failed)

    def _foresee(self, seconds: float) -> None:
        """Estimate what is left to do, and say it; if there is nothing, what the last run cost stays on record."""
        left = [cell for cell in self.plan.cells if not self.store.finished(cell.key)]
        self.earlier = {} if left else self.store.header()
        if seconds and left:
            self.expected = estimate(self.prepared, probe(self.prepared, seconds), left).describe()
            self.listener.note(foretold(self.expected))

    def _take_up(self) -> None:
        """Say what the last run in this directory left, and set aside what cannot be read of it."""
        before = self.store.status()
        if before is not None:
            how = "was killed" if before == "running" else f"ended {before}"
            self.store.event("resumed", last=before, what=f"the last run here {how}")
        for line in self.store.mend(c.key for c in self.plan.cells):
            self.store.event("set-aside", what=line)
            self.listener.note(line)

    def _jobs(self) -> None:
        """Have everything done: of each task its constants, each defense, and at last what its editions protect."""
        before = {c.key for c in self.plan.cells if self.store.finished(c.key)}
        with closing(chosen(Work(self.prepared, self.store, self.listener, self.took))) as executor:
            for task in self._longest_first() if executor.apart else self.plan.tasks:
                executor.submit(Job("constants", task))
            while executor.busy:
                for job, outcome in executor.wait():
                    self._over(executor, job, outcome)
                if executor.apart:
                    self._tell(before)

    def _longest_first(self) -> list[str]:
        """Tasks in the order that leaves no worker alone with a long one at the end: a text that is written costs a
        pass a token."""
        return sorted(self.plan.tasks, key=lambda task: not self.plan.tasks[task].readout.writes_text)

    def _over(self, executor: Executor, job: Job, outcome: Outcome) -> None:
        """What a job left, and what can be done now."""
        for note in outcome.notes:
            self.listener.note(note)
        self.took.merge(outcome.took)
        self.failed += outcome.failed
        self.failures += outcome.failures
        if outcome.raised is not None:
            raise outcome.raised
        if outcome.lost is not None:
            self._lost(job, outcome.lost)
        task = job.task
        self.saes[task] = list(
            {(one["site"], one["source"]): one for one in (*self.saes.get(task, ()), *outcome.saes)}.values()
        )
        if job.kind == "constants":
            assert outcome.frozen is not None
            self.frozen[task] = outcome.frozen
            self._header("running")
            self.open[task] = {c.defense for c in self.plan.cells if c.task == task}
            for defense in dict.fromkeys(c.defense for c in self.plan.cells if c.task == task):
                executor.submit(Job("group", task, defense, outcome.frozen))
        elif job.kind == "group":
            self.open[task].discard(job.defense)
            if not self.open[task]:
                executor.submit(Job("stability", task, frozen=self.frozen[task]))

    def _lost(self, job: Job, why: str) -> None:
        """No worker survived a job.

        Raises:
            UsageError: without what it was to find nothing can go on.
        """
        if job.kind != "group":
            raise UsageError(f"{job}: {why}; look at what the workers printed, and repeat the command")
        mine = [c for c in self.plan.cells if (c.task, c.defense) == (job.task, job.defense)]
        self.failed += sum(not self.store.finished(c.key) for c in mine)
        self.store.event("error", what=str(job), error=why, traceback="")
        self.failures.append(f"{job}: {why}")
        self.listener.note(f"{job}: {why}")

    def _tell(self, before: Container[str]) -> None:
        """Tell of cells that others have finished, by their files."""
        for cell in self.plan.cells:
            if cell.key not in self.told and self.store.has(cell.key):
                self.told.add(cell.key)
                self.listener.finished(cell, self.store.read(cell.key).to_pylist(), cell.key in before)

    def _header(self, status: str) -> None:
        """Write ``run.json``."""
        state = {
            "status": status,
            "started": self.started,
            "finished": None if status == "running" else _now(),
            "failed_cells": self.failed,
            "estimate": self.earlier.get("estimate", self.expected),
            "took": self.earlier.get("took", self._took()),
        }
        self.store.write_json("run.json", header(self.prepared, self.frozen, self.saes, state))

    def _took(self) -> dict[str, Any]:
        return {**self.took.describe(), "memory_mb": round(peak_mb(self.subject.device))}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
