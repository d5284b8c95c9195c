"""What needs the model, in a process of its own: a defense is fitted anew, what is stored replayed, a sample attacked.

``python -m leaderboard.verification.live ASKED.json FOLDER`` leaves tables and ``found.json`` in the folder; whoever
asked compares them with the rows. The defense may be anybody's code, so that nothing else is done here.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue
from safetensors.torch import load_file
from torch import Tensor

from benchmark.code import engine, summary
from benchmark.contracts.row import SCHEMA, table
from benchmark.errors import BenchError, UsageError
from benchmark.measure.group import Group
from benchmark.measure.remeasure import Measured
from benchmark.names import public_id
from benchmark.registry import told
from benchmark.run.card import card
from benchmark.run.cell import run_cell
from benchmark.run.checked import plain
from benchmark.run.custody import told as said
from benchmark.run.fingerprint import difference, fingerprint
from benchmark.run.groups import Undefended, make_group, on_fresh, prepared_task
from benchmark.run.memory import enough_memory
from benchmark.run.needs import connection
from benchmark.run.plan import Cell
from benchmark.run.prepare import Prepared, prepare
from benchmark.run.provenance import environment
from benchmark.run.replaying import replay_cell
from benchmark.run.request import Request
from benchmark.run.scrutiny import scrutiny
from benchmark.search.pack_size import PackSize
from benchmark.spec import Named
from leaderboard.rows.fits import Fit
from leaderboard.rows.plan import PlannedCell
from leaderboard.rows.run import MeasuredCell, Run, read_run
from leaderboard.scores.values import Strict
from leaderboard.verification.again import REFERENCE, REPLAYED, Found, OfTask


class Asked(Strict):
    """What is to be done."""

    root: str
    """Of the run or entry."""
    perturbations: str | None
    """Folder of what is replayed; None: nothing is."""
    defense: str
    request: dict[str, JsonValue]
    """Fields of the request that runs the defense as it was run."""
    spec: dict[str, JsonValue]
    """Of the defense in the run, which decided on its fresh examples."""
    share: float | None
    """Of the attacked cells, the part that is attacked again; None: none."""
    times: int
    """Steps and restarts, as a multiple of the run's."""
    seed: int
    """Of the sample, and of the new searches."""


def main() -> None:
    asked = Asked.model_validate_json(Path(sys.argv[1]).read_text("utf-8"))
    folder = Path(sys.argv[2])
    sys.dont_write_bytecode = True  # an entry's code is imported from the entry, which stays as it was handed in
    try:
        found = live(asked, folder)
    except BenchError as error:
        found = Found(failed=str(error), same_code=False, tasks={}, sampled=[], environment={})
    (folder / "found.json").write_text(found.model_dump_json(indent=1), "utf-8")


def live(asked: Asked, folder: Path) -> Found:
    """Do it, task by task, and leave the tables in a folder.

    Raises:
        UsageError: the suite, its model or the defense cannot be had here.
    """
    request = Request.make(asked.request, "entry")
    run = read_run(asked.root)
    with enough_memory(), connection(request.offline):
        prepared = prepare(request, _tell)
        sampled = sample(run, asked.defense, asked.share, asked.seed)
        work = _Work(asked, folder, prepared, run, sampled)
        tasks = {name: work.task(name) for name in prepared.plan.tasks}
    code = run.cells[0].plan.code or {}
    return Found(
        failed=None,
        same_code=code.get("engine") == summary(engine()),
        tasks=tasks,
        sampled=[cell.key for cell in sampled],
        environment=environment(prepared.subject.device),
    )


def sample(run: Run, defense: str, share: float | None, seed: int) -> list[PlannedCell]:
    """The cells that are attacked again: a seeded part of the scored ones, at least one of every task."""
    scored = [cell.plan for cell in run.cells if cell.plan.defense == defense and cell.scored]
    if share is None:
        return []
    chosen: list[PlannedCell] = []
    for task in dict.fromkeys(cell.task for cell in scored):
        own = sorted((cell for cell in scored if cell.task == task), key=lambda cell: cell.key)
        chosen += random.Random(f"{seed}|{task}").sample(own, max(1, round(share * len(own))))
    return chosen


class _Work:
    """Everything that all tasks have in common."""

    def __init__(
        self, asked: Asked, folder: Path, prepared: Prepared, run: Run, sampled: Sequence[PlannedCell]
    ) -> None:
        self.asked, self.folder, self.prepared, self.run = asked, folder, prepared, run
        self.sampled = {cell.key for cell in sampled}
        self.pack_size = PackSize(prepared.rows)

    def task(self, name: str) -> OfTask:
        """One task; what a defense raises costs no other task anything."""
        started = time.perf_counter()
        try:
            found = self._task(name)
        except (Exception, SystemExit) as error:
            found = OfTask(failed=told(error))
        _tell(f"{name}: {time.perf_counter() - started:.0f} s")
        return found.model_copy(update={"seconds": round(time.perf_counter() - started, 1)})

    def _task(self, name: str) -> OfTask:
        named = next(one for one in self.prepared.plan.on(name) if one.name == self.asked.defense)
        undefended = prepared_task(self.prepared, name)
        with undefended.custody.kept() as left:
            group = make_group(undefended, named)
        _refuse(left)
        groups = {"test": group}
        mine = [
            cell
            for cell in (*self.run.cells, *self.run.fresh)
            if (cell.plan.task, cell.plan.defense) == (name, named.name)
        ]
        if any(cell.plan.split == "fresh" for cell in mine):
            groups["fresh"] = on_fresh(group, undefended, self.asked.spec)
        self._write(f"{name}.reference", _reference(groups), REFERENCE)
        with undefended.custody.kept() as left:
            if self.asked.perturbations is not None:
                self._write(
                    f"{name}.replayed", [row for cell in mine for row in self._replayed(groups, cell)], REPLAYED
                )
            if self.sampled:
                self._again(name, named, undefended, groups, mine)
        _refuse(left)
        fit = self.run.fits.get((name, named.name))
        found = {"defense": named.name, **card(group, undefended.retention), **scrutiny(group, undefended)}
        return OfTask(fingerprint=_fingerprint(fit, group), fit=plain(found, "card"))

    def _write(self, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), self.folder / f"{name}.parquet")

    def _cell(self, planned: PlannedCell) -> Cell:
        """The cell of the plan here that a cell of the run is."""
        for cell in self.prepared.plan.cells:
            own = (cell.task, cell.defense, cell.attack.title, cell.attack.threat_model, cell.attack.constraint)
            if (*own, cell.attack.goal, cell.split) == _identity(planned):
                return cell
        raise UsageError(f"the suite has no cell {planned} on {planned.task} here; take the version of the run")

    def _replayed(self, groups: Mapping[str, Group], cell: MeasuredCell) -> Iterable[dict[str, Any]]:
        if not cell.perturbations:
            return []
        stored = load_file(Path(str(self.asked.perturbations)) / f"{cell.perturbations}.safetensors")
        group = groups[cell.plan.split]
        known = {name: delta for name, delta in stored.items() if name in {public_id(e.id) for e in group.attacked}}
        try:
            found = replay_cell(group, self._cell(cell.plan), known, _sites(cell, known), self.pack_size)
        except ValueError as error:  # of another shape: nothing is known of its rows, which is told with them
            _tell(f"{cell.plan.task}, {cell.plan}: {error}")
            return []
        return [
            _replayed_row(cell.plan, example, budget, measured)
            for example, levels in found.items()
            for budget, measured in zip(cell.plan.budgets, levels, strict=True)
        ]

    def _again(
        self,
        name: str,
        named: Named,
        undefended: Undefended,
        groups: Mapping[str, Group],
        cells: Sequence[MeasuredCell],
    ) -> None:
        """Attack the sampled cells harder, and the examples that are made for this verification as the run did."""
        tables = [
            self._attacked(groups["test"], cell.plan, self.asked.times)
            for cell in cells
            if cell.plan.key in self.sampled
        ]
        made = [cell.plan for cell in cells if cell.plan.split == "fresh"]
        if made:
            newest = on_fresh(groups["test"], undefended, self.asked.spec, self.asked.seed)
            tables.append(self._attacked(newest, made[0], 1))
        whole = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
        pq.write_table(whole, self.folder / f"{name}.again.parquet")

    def _attacked(self, group: Group, planned: PlannedCell, times: int) -> pa.Table:
        cell = self._cell(planned)
        harder = Cell(
            planned.key,
            cell.task,
            cell.defense,
            cell.attack.harder(times),
            cell.budgets,
            cell.sanity,
            self.asked.seed,
            cell.code,
            cell.split,
        )
        _tell(f"{planned.task}: {planned}, {times} times the steps and restarts")
        return table(run_cell(group, harder, self.pack_size).rows)


def _identity(cell: PlannedCell) -> tuple[str, ...]:
    return (cell.task, cell.defense, cell.attack, cell.threat_model, cell.constraint, cell.goal, cell.split)


def _sites(cell: MeasuredCell, known: Mapping[str, Tensor]) -> dict[str, list[tuple[str, ...] | None]]:
    """By example and budget, where the run says that it wrote."""
    rows = cell.rows.sort_by("budget_eps").select(["example_id", "written_sites"]).to_pylist()
    found: dict[str, list[tuple[str, ...] | None]] = {name: [] for name in known}
    for row in rows:
        if row["example_id"] in found:
            found[row["example_id"]].append(tuple(row["written_sites"]) if row["written_sites"] else None)
    return found


def _replayed_row(cell: PlannedCell, example: str, budget: float, measured: Measured | None) -> dict[str, Any]:
    row: dict[str, Any] = {"cell_key": cell.key, "example_id": example, "budget_eps": budget}
    if measured is None:
        return row
    return row | {
        "label": measured.label,
        "margin": measured.margin,
        "recovered": measured.recovered,
        "norm": measured.size.norm,
        "violation": measured.violation,
        "drift_abs": None if measured.drift is None else measured.drift.drift_abs,
    }


def _reference(groups: Mapping[str, Group]) -> list[dict[str, Any]]:
    """What the undefended and the defended model say of every example."""
    return [
        {
            "split": split,
            "example_id": public_id(example.id),
            "eligible": bool(group.eligible[i]),
            "suppressed": bool(group.suppressed[i]),
            "label_base": group.base.labels[i],
            "label_defended": group.defended.labels[i],
            "margin_base": float(group.base.margin[i]),
            "margin_defended": float(group.defended.margin[i]),
        }
        for split, group in groups.items()
        for i, example in enumerate(group.examples)
    ]


def _fingerprint(fit: Fit | None, group: Group) -> str | None:
    before = None if fit is None else fit.fingerprint
    return "the run has none" if before is None else difference(before, fingerprint(group))


def _refuse(left: Sequence[str]) -> None:
    if left:
        raise UsageError(f"the defense changed {said(left)}; let it act by its edits, and by nothing else")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
