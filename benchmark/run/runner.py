"""Run a plan: fit every defense on every task, attack, and leave rows. ``evaluate`` is the Python entry point."""

from __future__ import annotations

import datetime
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.contracts.row import SCHEMA, table
from benchmark.errors import BenchError, UsageError
from benchmark.measure.group import Group
from benchmark.measure.outcome import Matched
from benchmark.measure.replay import remember
from benchmark.registry import threat
from benchmark.run.card import card
from benchmark.run.cell import Measurement, run_cell
from benchmark.run.groups import Undefended, make_group, prepared_task
from benchmark.run.listener import Listener, Silent
from benchmark.run.plan import Cell, Plan, access, in_order, suite_attacks
from benchmark.run.prepare import Prepared, prepare
from benchmark.run.provenance import environment
from benchmark.run.request import Given, Request, Status
from benchmark.run.store import Store, read_json
from benchmark.search.pack_size import PackSize
from benchmark.spec import Named, sha
from benchmark.suite import Frozen


@dataclass(frozen=True)
class Result:
    """A finished run."""

    directory: Path
    status: Status
    """complete | partial (some cells failed and will be tried again)."""

    @property
    def rows(self) -> pa.Table:
        """All rows, in the order of the plan."""
        cells = read_json(self.directory / "plan.json")["cells"]
        store = Store(self.directory)
        parts = [store.read(c["key"]) for c in cells if store.has(c["key"])]
        return pa.concat_tables(parts) if parts else SCHEMA.empty_table()

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame."""
        return self.rows.to_pandas()


def evaluate(request: Request | Given | None = None, *, listener: Listener | None = None, **options: Any) -> Result:
    """Evaluate defenses against a suite's attacks; the same call again resumes.

    Args:
        request: the whole request; or its ``defense``: registered names, ``file.py:Class``, spec files, or ``Defense``
            objects.
        listener: is told what happens.
        options: the other fields of ``Request``, which documents them: ``suite``, ``tasks``, ``attacks``, ``limit``,
            ``output_dir``, ``seed`` and so on.

    Raises:
        UsageError: something asked for does not exist or does not fit; nothing was run.
        RunDirectoryError: ``output_dir`` cannot be used; nothing in it was changed.
        KeyboardInterrupt: everything finished so far is saved.
    """
    if isinstance(request, Request):
        if options:
            raise UsageError(f"give either a whole request or its options, not both: {', '.join(options)}")
    else:
        request = Request.make({"defense": request, **options}, "evaluate")
    prepared = prepare(request)
    directory = request.output_dir or default_directory(prepared.plan)
    store = Store(directory).open(prepared.plan.describe())
    try:
        return _Run(prepared, store, listener or Silent()).run()
    finally:
        store.close()


def default_directory(plan: Plan) -> Path:
    """runs/<suite>__<first defense>__<plan>: the same command finds its own directory again."""
    first = "".join(c if c.isalnum() or c in "-_." else "_" for c in next(iter(plan.defenses)))
    return Path("runs") / f"{plan.suite.name}__{first}__{plan.identity[:8]}"


class _Run:
    """The state of one run; ``run`` is called once."""

    def __init__(self, prepared: Prepared, store: Store, listener: Listener) -> None:
        self.prepared, self.store, self.listener = prepared, store, listener
        self.plan, self.subject = prepared.plan, prepared.subject
        self.pack_size = PackSize(prepared.rows, self._halved)
        self.frozen: dict[str, Frozen] = {}
        self.failed = 0
        self.started = _now()

    def run(self) -> Result:
        self.listener.started(self.plan, sum(self.store.finished(c.key) for c in self.plan.cells))
        self._header("running")
        try:
            for task in self.plan.tasks:
                self._task(task)
        except KeyboardInterrupt:
            self._header("interrupted")
            raise
        status: Status = "partial" if self.failed else "complete"
        self._header(status)
        return Result(self.store.root, status)

    def _task(self, name: str) -> None:
        cells = [c for c in self.plan.cells if c.task == name]
        self.frozen[name] = self._constants(name)
        self._header("running")
        undefended: Undefended | None = None
        for defense in dict.fromkeys(c.defense for c in cells):
            mine = [c for c in cells if c.defense == defense]
            if all(self.store.finished(c.key) for c in mine):
                for cell in mine:
                    self.listener.finished(cell, self.store.read(cell.key).to_pylist(), True)
                continue
            undefended = undefended or prepared_task(self.prepared, name, self.frozen[name])
            self._defense(self.plan.defenses[defense], mine, undefended)

    def _constants(self, task: str) -> Frozen:
        why = self.prepared.stale(task)
        if why is not None:
            self.listener.note(f"{task}: measuring norms and steering ceilings ({why})")
            self.store.event("constants-measured", task=task, why=why)
        return self.prepared.constants(task)

    def _defense(self, named: Named, cells: Sequence[Cell], undefended: Undefended) -> None:
        task = undefended.task.name
        self.listener.fitting(task, named.name)
        try:
            group = make_group(undefended, named, attribution=self.prepared.request.attribution)
            found = {"defense": named.name, **card(group, undefended.retention)}
        except (BenchError, KeyboardInterrupt):
            raise
        except Exception as error:
            self.failed += len(cells)
            self._error(f"{named.name} could not be fitted on {task}", repr(error), traceback.format_exc())
            return
        if not group.tail:
            self.listener.note(f"{named.name} on {task}: the tail pass differs here; using the full one (slower)")
        self.store.write_json(f"fits/{task}__{named.name}.json", found)
        self.listener.fitted(found)
        for cell in in_order(cells):
            if self.store.finished(cell.key):
                self.listener.finished(cell, self.store.read(cell.key).to_pylist(), True)
                found = None
            else:
                found = run_cell(group, cell, self.pack_size, run_id=self.plan.identity, matched=self._matched(cell))
                self._save(cell, found)
            if any(cell.key in other.replays and not self.store.finished(other.key) for other in cells):
                proposals = self._proposals(group, cell) if found is None else found.proposals
                remember(group, cell.attack.threat_model, proposals)

    def _proposals(self, group: Group, cell: Cell) -> Mapping[str, Tensor]:
        """What a finished cell found: as it was kept, or found again where nobody kept it."""
        try:
            return load_file(self.store.root / "private" / f"{cell.key}.safetensors")
        except (OSError, SafetensorError):
            return run_cell(group, cell, self.pack_size).proposals

    def _save(self, cell: Cell, found: Measurement) -> None:
        if found.failures:
            self.failed += 1
            last = found.failures[-1].strip().rsplit("\n", 1)[-1]
            what = f"{cell.task} x {cell.defense} x {cell.attack.title}: failed on {len(found.failures)} packs"
            self._error(what, last, found.failures[-1])
        if found.proposals:
            self.store.write_private(f"{cell.key}.safetensors", lambda part: save_file(found.proposals, part))
        rows = table(found.rows, self.plan.protocol.extra)
        self.store.write(cell.key, rows)
        self.listener.finished(cell, rows.to_pylist(), False)

    def _matched(self, cell: Cell) -> Matched | None:
        """The matched wrong target of a cell; None: none was run."""
        if cell.matched is None or not self.store.has(cell.matched):
            return None
        rows = self.store.read(cell.matched).select(["example_id", "eps_star", "status"]).to_pylist()
        failed = frozenset(r["example_id"] for r in rows if r["status"] == "error")
        return Matched({r["example_id"]: r["eps_star"] for r in rows}, failed)

    def _error(self, what: str, error: str, trace: str) -> None:
        self.store.event("error", what=what, error=error, traceback=trace)
        self.listener.note(f"{what}: {error} (see events.jsonl; repeat the command to try again)")

    def _halved(self, rows: int) -> None:
        self.store.event("pack-halved", rows=rows)
        self.listener.note(f"out of memory: going on with packs of {rows} rows")

    def _header(self, status: str) -> None:
        suite, request = self.plan.suite, self.prepared.request
        attacks = [a for a in suite_attacks(suite) if not a.is_control]
        self.store.write_json(
            "run.json",
            {
                "schema_version": 2,
                "run_id": self.plan.identity,
                "status": status,
                "started": self.started,
                "finished": None if status == "running" else _now(),
                "protocol": self.plan.protocol.name,
                "ranked": self.plan.protocol.ranked,
                "limit": self.prepared.limit,
                "suite": {
                    "name": suite.name,
                    "version": suite.version,
                    "hash": suite.hash,
                    "tasks": list(suite.tasks),
                    "attacks": [access(a) for a in attacks],
                    "undefended": suite.controls.undefended,
                },
                "model": {
                    "id": suite.model.name,
                    "revision": suite.model.revision,
                    "weights_sha": self.subject.weights_sha,
                },
                "seed": request.seed,
                "dtype": request.dtype,
                "threats": {name: threat(name).describe() for name in self._threats()},
                "tasks": {name: self._task_header(name) for name in self.frozen},
                "defenses": {n: {"spec": d.spec, "spec_sha": sha(d.spec)} for n, d in self.plan.defenses.items()},
                **environment(self.subject.device),
            },
        )

    def _threats(self) -> list[str]:
        """The threat models of the suite and of the plan."""
        named = [name for settings in self.plan.suite.tasks.values() for name in settings.budgets]
        return sorted({*named, *(cell.attack.threat_model for cell in self.plan.cells)})

    def _task_header(self, name: str) -> Mapping[str, Any]:
        settings, frozen, task = self.plan.suite.tasks[name], self.frozen[name], self.plan.tasks[name]
        return {
            "site": settings.site,
            "threat_models": [model for model in self._threats() if threat(model).applies(task) is None],
            "budgets": {model: list(budgets) for model, budgets in settings.budgets.items()},
            **frozen.model_dump(exclude={"weights_sha"}),
            "examples_hash": sha([e.content_hash for e in task.examples("test")]),
        }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
