"""Run a plan: fit every defense on every task, attack, and leave rows. ``evaluate`` is the Python entry point."""

from __future__ import annotations

import datetime
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmark.contracts.row import SCHEMA, table
from benchmark.errors import BenchError, RunDirectoryError, UsageError
from benchmark.files import file_name
from benchmark.measure.group import Group
from benchmark.measure.replay import remember
from benchmark.run.bill import CONSTANTS, FITS, Bill, compared, foretold, kind_of, peak_mb
from benchmark.run.card import card
from benchmark.run.cell import Measurement, run_cell
from benchmark.run.checked import plain
from benchmark.run.custody import told
from benchmark.run.estimate import estimate
from benchmark.run.fingerprint import difference, fingerprint
from benchmark.run.groups import Undefended, looked_at, make_group, on_fresh, prepared_task
from benchmark.run.header import header
from benchmark.run.listener import Listener, Silent
from benchmark.run.memory import enough_memory
from benchmark.run.needs import connection
from benchmark.run.ownership import read_json
from benchmark.run.plan import Cell, Plan, in_order
from benchmark.run.prepare import Prepared, prepare
from benchmark.run.probe import probe
from benchmark.run.request import Given, Request, Status
from benchmark.run.saes import Saes
from benchmark.run.scrutiny import scrutiny
from benchmark.run.signals import courteous
from benchmark.run.stability import keep_stability
from benchmark.run.store import Store
from benchmark.run.utility import is_measured, utility_record
from benchmark.search.pack_size import PackSize
from benchmark.spec import Named
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
        self.pack_size = PackSize(prepared.rows, self._halved)
        self.frozen: dict[str, Frozen] = {}
        self.saes: dict[str, Saes] = {}
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
            for task in self.plan.tasks:
                self._task(task)
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

    def _task(self, name: str) -> None:
        cells = [c for c in self.plan.cells if c.task == name]
        with self.took.timed(name, CONSTANTS):
            self.saes[name] = looked_at(self.prepared, name, self.store.saes(name))
            self._note_saes(name)
            self.frozen[name] = self._constants(name)
        self._header("running")
        undefended: Undefended | None = None
        for defense in dict.fromkeys(c.defense for c in cells):
            mine = [c for c in cells if c.defense == defense]
            if self._known(name, defense, mine) and all(self.store.finished(c.key) for c in mine):
                for cell in mine:
                    self.listener.finished(cell, self.store.read(cell.key).to_pylist(), True)
                continue
            with self.took.timed(name, CONSTANTS):
                undefended = undefended or prepared_task(self.prepared, name, self.frozen[name], self.saes[name])
            self._defense(self.plan.defenses[defense], mine, undefended)
        with self.took.timed(name, FITS):
            keep_stability(self.store, self.plan, name, self.saes[name], self.listener.note)

    def _note_saes(self, task: str) -> None:
        for one in self.saes[task].found:
            for note in one["notes"]:
                self.listener.note(f"{task}: the SAE {one['source']} at {one['site']}: {note}")

    def _known(self, task: str, defense: str, cells: Sequence[Cell]) -> bool:
        """Whether all that is asked of a fitted defense is written."""
        if not self.store.has_fit(task, defense):
            return False
        return not _evaluated(cells) or is_measured(self.prepared.utility, self.store.fit(task, defense))

    def _constants(self, task: str) -> Frozen:
        known = self.prepared.constants(task)
        if known.why is not None:
            what = "constants-from-cache" if known.cached else "constants-measured"
            self.store.event(what, task=task, why=known.why, seconds=round(known.seconds, 3))
        return known.frozen

    def _defense(self, named: Named, cells: Sequence[Cell], undefended: Undefended) -> None:
        task = undefended.task.name
        self.listener.fitting(task, named.name)
        try:
            with undefended.custody.kept() as left, self.took.timed(task, FITS):
                group, found = self._fitted(named, cells, undefended)
            _refuse(left, "what it was classified with")
            self._refuse_other_fit(named, cells, found)
        except (Exception, SystemExit) as error:  # a defense is anybody's code, and costs nobody else anything
            self.failed += len(cells)
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
            self.failed += 1
            what = f"{cell.task} x {cell.defense} x {cell.attack.title} ({cell.attack.threat_model}): not run"
            return self._error(what, f"it tries what {', '.join(missing)} finds, which failed", "")
        try:
            with undefended.custody.kept() as left, self.took.timed(cell.task, kind_of(cell)):
                on = group if cell.split == "test" else on_fresh(group, undefended, named.spec)
                found = run_cell(on, cell, self.pack_size, run_id=self.plan.identity)
            _refuse(left, "what it was attacked with")
        except (Exception, SystemExit) as error:
            self.failed += 1
            what = f"{cell.task} x {cell.defense} x {cell.attack.title}: failed"
            self._error(what, _said(error), traceback.format_exc())
            return
        self._save(cell, found)

    def _save(self, cell: Cell, found: Measurement) -> None:
        if found.failures:
            self.failed += 1
            last = found.failures[-1].strip().rsplit("\n", 1)[-1]
            what = f"{cell.task} x {cell.defense} x {cell.attack.title}: failed on {len(found.failures)} packs"
            self._error(what, last, found.failures[-1])
        rows = table(found.rows, self.plan.protocol.extra)
        self.store.write(cell.key, rows, cell.code, found.proposals)
        self.took.count(rows)
        self.listener.finished(cell, rows.to_pylist(), False)

    def _error(self, what: str, error: str, trace: str) -> None:
        self.store.event("error", what=what, error=error, traceback=trace)
        self.failures.append(f"{what}: {error}")
        self.listener.note(f"{what}: {error}")

    def _halved(self, rows: int) -> None:
        self.store.event("pack-halved", rows=rows)
        self.listener.note(f"out of memory: going on with packs of {rows} rows")

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


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
