"""What a run does with the model, job by job: wherever it is done, the same files come of it."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmark.contracts.row import table
from benchmark.errors import BenchError, UsageError
from benchmark.measure.group import Group
from benchmark.measure.replay import remember
from benchmark.run.bill import CONSTANTS, FITS, Bill, kind_of
from benchmark.run.card import card
from benchmark.run.cell import Measurement, run_cell
from benchmark.run.checked import plain
from benchmark.run.custody import told
from benchmark.run.fingerprint import difference, fingerprint
from benchmark.run.groups import Undefended, looked_at, make_group, on_fresh, prepared_task
from benchmark.run.listener import Listener
from benchmark.run.plan import Cell, in_order
from benchmark.run.prepare import Prepared
from benchmark.run.saes import Saes
from benchmark.run.scrutiny import scrutiny
from benchmark.run.stability import keep_stability
from benchmark.run.store import Store
from benchmark.run.utility import is_measured, utility_record
from benchmark.search.pack_size import PackSize
from benchmark.spec import Named
from benchmark.suite import Frozen

Kind = Literal["constants", "group", "stability"]
"""Measure a task's constants; fit a defense on it and run its cells; compare what editions of a defense protect."""


@dataclass(frozen=True)
class Job:
    """A part of a run that is done in one place."""

    kind: Kind
    task: str
    defense: str = ""
    """Of a group."""
    frozen: Frozen | None = field(default=None, compare=False)
    """The task's constants, of all jobs but the first on a task."""

    def __str__(self) -> str:
        return f"{self.defense} on {self.task}" if self.defense else f"{self.kind} of {self.task}"


@dataclass
class Outcome:
    """What a job left beside its files."""

    failures: list[str] = field(default_factory=list)
    """What failed, and why, one line each."""
    failed: int = 0
    """Cells that failed."""
    frozen: Frozen | None = None
    """Of the job that measures the constants."""
    saes: Sequence[Mapping[str, Any]] = ()
    """What was found of the task's SAEs so far, as JSON values."""
    took: Bill = field(default_factory=Bill)
    """What it cost, where it was done in another process."""
    notes: list[str] = field(default_factory=list)
    """What that process had to say."""
    files: dict[str, bytes] = field(default_factory=dict)
    """What it wrote, by place in the run directory, where it does not see that."""
    raised: BaseException | None = None
    """What ends the run."""
    lost: str | None = None
    """Why it was not done at all."""


class Work:
    """Does jobs of one run in this process, and writes their files."""

    def __init__(self, prepared: Prepared, store: Store, listener: Listener, took: Bill) -> None:
        """``took``: where the time goes, also that of a job which is cut short."""
        self.prepared, self.store, self.listener, self.took = prepared, store, listener, took
        self.plan, self.subject = prepared.plan, prepared.subject
        self.pack_size = PackSize(prepared.rows, self._halved)
        self.saes: dict[str, Saes] = {}
        self.undefended: Undefended | None = None
        self.left = Outcome()

    def do(self, job: Job) -> Outcome:
        """Do a job; what fails of a defense is in the outcome, and costs no other job anything.

        Raises:
            UsageError: an SAE of the suite is not healthy.
            RunDirectoryError: a file cannot be written.
        """
        self.left = Outcome()
        if job.task not in self.saes:
            with self.took.timed(job.task, CONSTANTS):
                self.saes[job.task] = looked_at(self.prepared, job.task, self.store.saes(job.task))
        if job.kind == "constants":
            self._constants(job.task)
        elif job.kind == "group":
            self._group(job)
        else:
            with self.took.timed(job.task, FITS):
                keep_stability(self.store, self.plan, job.task, self.saes[job.task], self.listener.note)
        self.left.saes = self.saes[job.task].found
        return self.left

    def _constants(self, task: str) -> None:
        for one in self.saes[task].found:
            for note in one["notes"]:
                self.listener.note(f"{task}: the SAE {one['source']} at {one['site']}: {note}")
        with self.took.timed(task, CONSTANTS):
            known = self.prepared.constants(task)
        if known.why is not None:
            what = "constants-from-cache" if known.cached else "constants-measured"
            self.store.event(what, task=task, why=known.why, seconds=round(known.seconds, 3))
        self.left.frozen = known.frozen

    def _group(self, job: Job) -> None:
        cells = [c for c in self.plan.cells if (c.task, c.defense) == (job.task, job.defense)]
        if self._known(job.task, job.defense, cells) and all(self.store.finished(c.key) for c in cells):
            for cell in cells:
                self.listener.finished(cell, self.store.read(cell.key).to_pylist(), True)
            return
        if self.undefended is None or self.undefended.task.name != job.task:
            with self.took.timed(job.task, CONSTANTS):
                self.undefended = prepared_task(self.prepared, job.task, job.frozen, self.saes[job.task])
        self._defense(self.plan.defenses[job.defense], cells, self.undefended)

    def _known(self, task: str, defense: str, cells: Sequence[Cell]) -> bool:
        """Whether all that is asked of a fitted defense is written."""
        if not self.store.has_fit(task, defense):
            return False
        return not _evaluated(cells) or is_measured(self.prepared.utility, self.store.fit(task, defense))

    def _defense(self, named: Named, cells: Sequence[Cell], undefended: Undefended) -> None:
        task = undefended.task.name
        self.listener.fitting(task, named.name)
        self.store.event("fitting", task=task, defense=named.name, worker=name_of_worker())
        try:
            with undefended.custody.kept() as left, self.took.timed(task, FITS):
                group, found = self._fitted(named, cells, undefended)
            _refuse(left, "what it was classified with")
            self._refuse_other_fit(named, cells, found)
        except (Exception, SystemExit) as error:  # a defense is anybody's code, and costs nobody else anything
            self.left.failed += len(cells)
            self._error(f"{named.name} could not be fitted on {task}", _said(error), traceback.format_exc())
            return
        if not group.tail:
            self.listener.note(f"{named.name} on {task}: the tail pass differs here; using the full one (slower)")
        self.store.write_fit(task, named.name, found)
        self.listener.fitted(found)
        for cell in in_order(cells):
            if self.store.finished(cell.key):
                self.listener.finished(cell, self.store.read(cell.key).to_pylist(), True)
            else:
                self.listener.attacking(cell)
                self.store.event("attacking", key=cell.key, task=task, defense=named.name, worker=name_of_worker())
                self._cell(named, cell, group, undefended)
            self._hand_on(group, cell, cells)

    def _hand_on(self, group: Group, cell: Cell, cells: Sequence[Cell]) -> None:
        """What a cell found is shown to those that try it too."""
        if self.store.finished(cell.key) and any(cell.key in other.replays for other in cells):
            remember(group, cell.attack.threat_model, self.store.perturbations(cell.key))

    def _fitted(self, named: Named, cells: Sequence[Cell], undefended: Undefended) -> tuple[Group, dict[str, Any]]:
        """A defense on a task, and its card."""
        group = make_group(undefended, named, attribution=self.prepared.request.attribution)
        self._note_unsaid(named, undefended)
        found = {"defense": named.name, **card(group, undefended.retention), "fingerprint": fingerprint(group)}
        if _evaluated(cells):
            found |= scrutiny(group, undefended)
            before = self.store.fit(group.task.name, named.name)
            found |= utility_record(self.prepared.utility, before, found["fingerprint"], group.fitted.edits)
        return group, plain(found, "card")

    def _note_unsaid(self, named: Named, undefended: Undefended) -> None:
        """Where a site has several SAEs, and the defense reads the first of them alone."""
        fitting = undefended.edition(named.edition).fitting
        for site in sorted(fitting.asked - {str(said) for said in named.defense.suite_saes(fitting.site)}):
            count = len(self.plan.suite.saes.get(site, ()))
            if count > 1:
                self.listener.note(
                    f"{named.name} on {fitting.task.name}: of {count} SAEs at {site} it reads the first alone: its"
                    " latents are given by number, or it does not say that it reads one (`Defense.suite_saes`)"
                )

    def _refuse_other_fit(self, named: Named, cells: Sequence[Cell], found: Mapping[str, Any]) -> None:
        """Nothing, unless cells are finished that belong to another fit of the same defense.

        Raises:
            UsageError: they do.
        """
        finished = sum(self.store.finished(cell.key) for cell in cells)
        before = self.store.fit(found["task"], named.name).get("fingerprint") if finished else None
        why = difference(before, found["fingerprint"]) if before else None
        if why:
            raise UsageError(
                f"it was fitted again with another result: {why}. Its {finished} finished cells stay and belong to the"
                " first fit; let it draw random numbers from torch, numpy or random alone, which are seeded for it, or"
                " give another --output-dir"
            )

    def _cell(self, named: Named, cell: Cell, group: Group, undefended: Undefended) -> None:
        missing = [key for key in cell.replays if not self.store.finished(key)]
        if missing:
            self.left.failed += 1
            what = f"{cell.task} x {cell.defense} x {cell.attack.title} ({cell.attack.threat_model}): not run"
            return self._error(what, f"it tries what {', '.join(missing)} finds, which failed", "")
        try:
            with undefended.custody.kept() as left, self.took.timed(cell.task, kind_of(cell)):
                on = group if cell.split == "test" else on_fresh(group, undefended, named.spec)
                found = run_cell(on, cell, self.pack_size, run_id=self.plan.identity)
            _refuse(left, "what it was attacked with")
        except (Exception, SystemExit) as error:
            self.left.failed += 1
            what = f"{cell.task} x {cell.defense} x {cell.attack.title}: failed"
            self._error(what, _said(error), traceback.format_exc())
            return
        self._save(cell, found)

    def _save(self, cell: Cell, found: Measurement) -> None:
        if found.failures:
            self.left.failed += 1
            last = found.failures[-1].strip().rsplit("\n", 1)[-1]
            what = f"{cell.task} x {cell.defense} x {cell.attack.title}: failed on {len(found.failures)} packs"
            self._error(what, last, found.failures[-1])
        rows = table(found.rows, self.plan.protocol.extra)
        self.store.write(cell.key, rows, cell.code, found.proposals)
        self.took.count(rows)
        self.listener.finished(cell, rows.to_pylist(), False)

    def _error(self, what: str, error: str, trace: str) -> None:
        self.store.event("error", what=what, error=error, traceback=trace)
        self.left.failures.append(f"{what}: {error}")
        self.listener.note(f"{what}: {error}")

    def _halved(self, rows: int) -> None:
        self.store.event("pack-halved", rows=rows)
        self.listener.note(f"out of memory: going on with packs of {rows} rows")


def name_of_worker() -> str:
    """Which process of which machine this is."""
    return f"{platform.node()}:{os.getpid()}"


def _evaluated(cells: Sequence[Cell]) -> bool:
    """Whether the defense of these cells is attacked, and not classified only."""
    return any(not cell.attack.is_control for cell in cells)


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, BenchError) else repr(error)


def _refuse(left: Sequence[str], what: str) -> None:
    if left:
        raise UsageError(
            f"{what} changed {told(left)}; everything was put back, and nothing of it counts; let an edit return a"
            " tensor and change nothing else"
        )
