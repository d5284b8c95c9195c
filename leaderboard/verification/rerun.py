"""The third stage: a sample of the attacks, run again from nothing and harder, brings back nothing that held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from benchmark.contracts.row import SCHEMA
from leaderboard.doubt.fresh_split import fresh_findings
from leaderboard.rows.arrays import real, text
from leaderboard.rows.files import table_of
from leaderboard.rows.reference import compared
from leaderboard.rows.run import MeasuredCell
from leaderboard.rows.selection import recovers, where
from leaderboard.scores.curves import areas, holding
from leaderboard.scores.outcomes import Outcomes, outcomes
from leaderboard.scores.values import Strict
from leaderboard.verification.again import Found
from leaderboard.verification.checks import Check, check
from leaderboard.verification.recomputed import Subject


class Rerun(Strict):
    """One cell that was attacked again."""

    task: str
    cell: str
    held: int
    """Ranked rows that held in the run."""
    fell: int
    """Of those, how many the harder attack brought back."""
    gave_way: list[str]
    """Examples that held at every ranked budget, and came back."""
    area: float
    """Under the curve of the run; the attack alone."""
    area_again: float
    """The same, of the worse of both at every budget."""


def reruns(one: Subject, found: Found, folder: Path) -> list[Rerun]:
    """What became of the sampled cells, in the order of the run."""
    tables = {task: _again(folder, task) for task in found.tasks}
    chosen = [cell for cell in one.run.cells if cell.plan.key in found.sampled]
    return [_compared(cell, _of(tables[cell.plan.task], cell.plan.key)) for cell in chosen]


def rerun(one: Subject, found: Found, folder: Path, again: list[Rerun]) -> Iterator[Check]:
    """The checks, one by one."""
    yield check(
        "re-run",
        "every sampled attack ran again to its end",
        _gaps(one, found, folder),
        looked_at=f"{len(again)} cells",
    )
    faults = (_fallen(result) for result in again if result.fell)
    yield check(
        "re-run", "no row that held falls to a harder attack", faults, looked_at=f"{sum(r.held for r in again)} rows"
    )
    fresh = (fault for task in found.tasks for fault in _fresh_faults(one, task, _again(folder, task)))
    # what does otherwise where nobody has looked is no measurement at all, however well its rows are replayed
    yield check("replayed", "on examples that were made for this verification it does the same", fresh)


def _fallen(result: Rerun) -> str:
    gone = f"; {len(result.gave_way)} examples held at every budget and came back" if result.gave_way else ""
    return (
        f"{result.task}, {result.cell}: {result.fell} of {result.held} rows that held fell{gone}; the area under the "
        f"curve is {result.area_again:.3f}, and was {result.area:.3f}"
    )


def _again(folder: Path, task: str) -> pa.Table:
    file = folder / f"{task}.again.parquet"
    return table_of(file, SCHEMA)[0] if file.is_file() else SCHEMA.empty_table()


def _of(rows: pa.Table, key: str) -> pa.Table:
    return where(rows, text(rows, "cell_key") == key)


def _compared(cell: MeasuredCell, again: pa.Table) -> Rerun:
    old, both = outcomes(cell.rows), outcomes(_worse(cell.rows, again))
    held, left = (holding(one, old.budgets, selective=False).astype(bool) for one in (old, both))
    fell = held & ~left
    return Rerun(
        task=cell.plan.task,
        cell=str(cell.plan),
        held=int(held.sum()),
        fell=int(fell.sum()),
        gave_way=[str(example) for example in old.examples[fell[:, -1:].any(axis=1)]],
        area=_area(old),
        area_again=_area(both),
    )


def _worse(rows: pa.Table, again: pa.Table) -> pa.Table:
    """The rows, recovered where either attack did it."""
    found = {pair for pair, hit in zip(_pairs(again), recovers(again).tolist(), strict=True) if hit}
    either = [bool(old) or pair in found for old, pair in zip(recovers(rows).tolist(), _pairs(rows), strict=True)]
    return rows.set_column(rows.column_names.index("recovered"), "recovered", pa.array(either, type=pa.bool_()))


def _pairs(rows: pa.Table) -> list[tuple[str, float]]:
    return list(zip(text(rows, "example_id").tolist(), real(rows, "budget_eps").tolist(), strict=True))


def _area(found: Outcomes) -> float:
    return float(areas(found, found.budgets).mean()) if len(found.examples) else 0.0


def _gaps(one: Subject, found: Found, folder: Path) -> Iterator[str]:
    cells = {cell.plan.key: cell for cell in one.run.cells}
    for key in found.sampled:
        rows = _of(_again(folder, cells[key].plan.task), key)
        failed = int((text(rows, "status") == "error").sum())
        missing = cells[key].rows.num_rows - rows.num_rows
        if failed or missing:
            yield f"{cells[key].plan.task}, {cells[key].plan}: {failed} rows failed, {missing} are missing"


def _fresh_faults(one: Subject, task: str, rows: pa.Table) -> Iterator[str]:
    cells = [cell for cell in one.run.cells if (cell.plan.task, cell.plan.defense) == (task, one.defense)]
    made = [cell for cell in one.run.fresh if (cell.plan.task, cell.plan.defense) == (task, one.defense)]
    newest = [
        MeasuredCell(cell.plan, cell.threat, compared(own, None))
        for cell in made
        if (own := _of(rows, cell.plan.key)).num_rows
    ]
    for finding in fresh_findings(cells, newest):
        yield f"{task}: {finding.sentence}"
