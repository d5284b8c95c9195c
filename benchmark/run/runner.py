"""Run a plan: fit every defense on every task, attack, and leave rows. ``evaluate`` is the Python entry point."""

from __future__ import annotations

import datetime
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors.torch import save_file

from benchmark.cells.cell import run_cell
from benchmark.cells.remeasure import Row
from benchmark.contracts import Attack, Task
from benchmark.errors import BenchError
from benchmark.run.card import card
from benchmark.run.fitting import TaskReference, make_group
from benchmark.run.listener import Listener, Silent
from benchmark.run.plan import Cell, Plan, suite_attacks
from benchmark.run.prepare import Defenses, Prepared, prepare
from benchmark.run.provenance import environment
from benchmark.run.store import Store, read_json
from benchmark.schema import SCHEMA
from benchmark.search.pack_size import PackSize
from benchmark.spec import Named, sha
from benchmark.suite import Frozen


@dataclass(frozen=True)
class Result:
    """A finished run."""

    directory: Path
    status: str
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


def evaluate(
    defense: Defenses = "sae-clamp",
    *,
    suite: str = "embedded",
    tasks: Sequence[str] | None = None,
    attacks: Sequence[str] | None = None,
    limit: int | None = None,
    output_dir: str | Path | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    controls: bool = True,
    attribution: bool = False,
    options: Mapping[str, Any] | None = None,
    protocol: str = "strict",
    listener: Listener | None = None,
) -> Result:
    """Evaluate defenses against a suite's attacks; the same call again resumes.

    Args:
        defense: registered names, ``file.py:Class``, spec files, or ``Defense`` objects.
        suite: registered name or YAML file.
        tasks, attacks: names; all of the suite by default.
        limit: at most so many test examples a task. For trying things out: the result is never ranked.
        output_dir: run directory; by default one under runs/ that the plan determines.
        batch_size: rows of a forward pass; by default found automatically. Never changes a result.
        controls: also classify the control defenses (``none``, and a defense's own control).
        attribution: also replay the parts of every recovery's perturbation: which latents, or what no SAE explains.
        options: settings on top of every given defense.
        protocol: ``strict``, or ``paper`` for the published study's semantics; the latter is never ranked.

    Raises:
        UsageError: something asked for does not exist or does not fit; nothing was run.
        RunDirectoryError: ``output_dir`` cannot be used; nothing in it was changed.
        KeyboardInterrupt: everything finished so far is saved.
    """
    prepared = prepare(
        defense,
        suite=suite,
        tasks=tasks,
        attacks=attacks,
        limit=limit,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        seed=seed,
        controls=controls,
        options=options,
        protocol=protocol,
        attribution=attribution,
    )
    directory = Path(output_dir) if output_dir else default_directory(prepared.plan)
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
        self.listener.started(self.plan, sum(self.store.has(c.key) for c in self.plan.cells))
        self._header("running")
        try:
            for task in self.plan.tasks:
                self._task(task)
        except KeyboardInterrupt:
            self._header("interrupted")
            raise
        status = "partial" if self.failed else "complete"
        self._header(status)
        return Result(self.store.root, status)

    def _task(self, name: str) -> None:
        task = self.plan.tasks[name]
        cells = [c for c in self.plan.cells if c.task == name]
        self.frozen[name] = self._constants(name)
        self._header("running")
        reference: TaskReference | None = None
        for defense in dict.fromkeys(c.defense for c in cells):
            mine = [c for c in cells if c.defense == defense]
            if all(self.store.has(c.key) for c in mine):
                for cell in mine:
                    self.listener.finished(cell, self.store.read(cell.key).to_pylist(), True)
                continue
            examples = self.prepared.examples(task)
            reference = reference or TaskReference(self.subject, task, examples, self.plan.protocol)
            self._defense(task, self.plan.defenses[defense], mine, reference)

    def _constants(self, task: str) -> Frozen:
        why = self.prepared.stale(task)
        if why is not None:
            self.listener.note(f"{task}: measuring norms and steering ceilings ({why})")
            self.store.event("constants-measured", task=task, why=why)
        return self.prepared.constants(task)

    def _defense(self, task: Task, named: Named, cells: Sequence[Cell], reference: TaskReference) -> None:
        self.listener.fitting(task.name, named.name)
        try:
            settings = self.plan.suite.tasks[task.name]
            frozen, attribution = self.frozen[task.name], self.prepared.attribution
            group = make_group(self.subject, task, named, settings, frozen, reference, attribution=attribution)
            found = {"defense": named.name, **card(group, reference.retention)}
        except (BenchError, KeyboardInterrupt):
            raise
        except Exception as error:
            self._error(f"{named.name} could not be fitted on {task.name}", error, len(cells))
            return
        if not group.restart:
            self.listener.note(
                f"{named.name} on {task.name}: the restarted pass differs here; using the full one (slower)"
            )
        self.store.write_json(f"fits/{task.name}__{named.name}.json", found)
        self.listener.fitted(found)
        for cell in cells:
            if self.store.has(cell.key):
                self.listener.finished(cell, self.store.read(cell.key).to_pylist(), True)
                continue
            try:
                rows, deltas = run_cell(group, cell.attack, cell.budgets, self.prepared.seed, self.pack_size)
            except (BenchError, KeyboardInterrupt):
                raise
            except Exception as error:
                self._error(f"cell {cell.key} ({task.name} x {named.name} x {cell.attack.title}) failed", error, 1)
                continue
            self._save(cell, rows, deltas)

    def _save(self, cell: Cell, rows: list[Row], deltas: Mapping[str, Any]) -> None:
        rows = [{**row, **self._identity(cell, row)} for row in rows]
        _add_thresholds(rows, self._wrong(cell), ran=cell.matched is not None)
        if deltas:
            self.store.write_private(f"{cell.key}.safetensors", lambda part: save_file(dict(deltas), part))
        self.store.write(cell.key, rows)
        self.listener.finished(cell, rows, False)

    def _identity(self, cell: Cell, row: Row) -> Row:
        attack = cell.attack
        return {
            "run_id": self.plan.identity,
            "cell_key": cell.key,
            "task": cell.task,
            "defense": cell.defense,
            "attack": attack.title,
            "threat_model": str(attack.threat_model),
            "constraint": attack.constraint,
            "goal": attack.goal,
            "seed": cell.seed,
            "sanity": row["budget_eps"] in cell.sanity,
        }

    def _wrong(self, cell: Cell) -> dict[str, float | None]:
        """Example id -> eps_star of the matched wrong target."""
        if cell.matched is None or not self.store.has(cell.matched):
            return {}
        table = self.store.read(cell.matched).select(["example_id", "eps_star"]).to_pydict()
        return dict(zip(table["example_id"], table["eps_star"], strict=True))

    def _error(self, what: str, error: Exception, cells: int) -> None:
        self.failed += cells
        self.store.event("error", what=what, error=repr(error), traceback=traceback.format_exc())
        self.listener.note(
            f"{what}: {type(error).__name__}: {error} (see events.jsonl; repeat the command to try again)"
        )

    def _halved(self, rows: int) -> None:
        self.store.event("pack-halved", rows=rows)
        self.listener.note(f"out of memory: going on with packs of {rows} rows")

    def _header(self, status: str) -> None:
        suite = self.plan.suite
        self.store.write_json(
            "run.json",
            {
                "schema_version": 1,
                "run_id": self.plan.identity,
                "status": status,
                "started": self.started,
                "finished": None if status == "running" else _now(),
                "protocol": self.plan.protocol.name,
                "limit": self.prepared.limit,
                "suite": {
                    "name": suite.name,
                    "version": suite.version,
                    "hash": suite.hash,
                    "tasks": list(suite.tasks),
                    "attacks": [_access(a) for a in suite_attacks(suite, None) if not a.is_control],
                },
                "model": {
                    "id": suite.model.name,
                    "revision": suite.model.revision,
                    "weights_sha": self.subject.weights_sha,
                },
                "seed": self.prepared.seed,
                "dtype": self.prepared.dtype,
                "tasks": {t: self._task_header(t) for t in self.frozen},
                "defenses": {n: {"spec": d.spec, "spec_sha": sha(d.spec)} for n, d in self.plan.defenses.items()},
                **environment(self.subject.device),
            },
        )

    def _task_header(self, name: str) -> dict[str, Any]:
        settings = self.plan.suite.tasks[name]
        frozen = self.frozen[name].model_dump(exclude={"weights_sha", "residual_norms"})
        norm = self.frozen[name].residual_norms
        kinds = ("budgets", "suffix_budgets", "token_budgets")
        grids = {kind: list(getattr(settings, kind)) for kind in kinds}
        ids = [e.content_hash for e in self.prepared.examples(self.plan.tasks[name])]
        families = sorted(self.plan.tasks[name].threat_models)
        return {
            "site": settings.site,
            "threat_models": families,
            **grids,
            **frozen,
            "residual_norms": norm,
            "examples_hash": sha(ids),
        }


def _access(attack: Attack) -> dict[str, str]:
    """What identifies an attack of a suite, for who checks that all of them ran."""
    return {"attack": attack.title, "threat_model": str(attack.threat_model), "constraint": attack.constraint}


def _add_thresholds(rows: list[Row], wrong: Mapping[str, float | None], ran: bool) -> None:
    """Fill ``eps_star``, ``eps_star_wrong`` and ``selective``, which look at all budgets of an example."""
    first: dict[str, float] = {}
    for row in rows:
        if row["recovered"] and not row["sanity"]:
            example, eps = str(row["example_id"]), float(row["budget_eps"])  # type: ignore[arg-type]
            first[example] = min(eps, first.get(example, eps))
    for row in rows:
        example = str(row["example_id"])
        row["eps_star"] = first.get(example)
        if ran and row["status"] == "ok":
            against = row["eps_star_wrong"] = wrong.get(example)
            sooner = example in first and (against is None or first[example] < against)
            row["selective"] = bool(row["recovered"]) and sooner


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
