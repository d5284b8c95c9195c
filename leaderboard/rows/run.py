"""A run directory, or a run that was handed in, as data: ``run.json``, ``plan.json``, ``fits/*.json`` and the rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmark.errors import RunDirectoryError
from leaderboard.rows.files import Rows
from leaderboard.rows.fits import Fit
from leaderboard.rows.manifest import Manifest, ThreatRecord
from leaderboard.rows.plan import Plan, PlannedCell
from leaderboard.rows.recorded import parse
from leaderboard.rows.reference import compared
from leaderboard.rows.selection import up_to
from leaderboard.rows.stability import PairRecord, Stability


@dataclass(frozen=True)
class MeasuredCell:
    """A planned cell, its threat model and its rows."""

    plan: PlannedCell
    threat: ThreatRecord
    rows: pa.Table
    """Those at budgets above the steering ceiling are marked as sanity rows, whatever the file says; with what they
    compare with on the undefended model."""
    strange: bool = False
    """Its file says that other code made it than the plan's."""
    perturbations: str = ""
    """SHA-256 of the file with its perturbations; empty: nothing was attacked."""

    @property
    def scored(self) -> bool:
        """Whether its recoveries enter the score."""
        return self.plan.attacks and self.threat.scored


@dataclass(frozen=True)
class Run:
    """One run directory."""

    manifest: Manifest
    cells: tuple[MeasuredCell, ...]
    missing: tuple[PlannedCell, ...]
    """Planned cells without a file; only a run that is not complete may have any."""
    fits: dict[tuple[str, str], Fit]
    """By (task, defense)."""
    fresh: tuple[MeasuredCell, ...] = ()
    """Cells on examples that were made for the run: compared with the others, never scored."""
    stability: tuple[PairRecord, ...] = ()
    """What the editions of its defenses have in common."""

    @property
    def planned(self) -> tuple[PlannedCell, ...]:
        """All cells, measured or not."""
        return (*(cell.plan for cell in self.cells), *self.missing)


def read_run(directory: Path | str) -> Run:
    """Read a run directory.

    Raises:
        RunDirectoryError: it is missing, incomplete although it says that it is complete, damaged, or of another
            version.
    """
    root = Path(directory)
    if (root / "plan.json").is_file() and not (root / "run.json").exists():
        raise RunDirectoryError(f"{root} holds a run that has not measured anything yet; repeat its command")
    if not (root / "run.json").is_file():
        raise RunDirectoryError(f"{root} is no run directory: it has no run.json; give a directory that a run wrote")
    manifest, plan = parse(Manifest, root / "run.json"), parse(Plan, root / "plan.json")
    rows = Rows(root)
    missing = tuple(cell for cell in plan.cells if not rows.has(cell.key))
    if missing and manifest.status == "complete":
        raise RunDirectoryError(
            f"{root} says that it is complete, but the cell {missing[0].key} is missing; repeat the run"
        )
    fits = [parse(Fit, file) for file in sorted((root / "fits").glob("*.json"))]
    measured = [_measured(root, manifest, cell, rows) for cell in plan.cells if cell not in missing]
    return Run(
        manifest=manifest,
        cells=tuple(cell for cell in measured if cell.plan.split == "test"),
        fresh=tuple(cell for cell in measured if cell.plan.split != "test"),
        missing=missing,
        fits={(fit.task, fit.defense): fit for fit in fits},
        stability=_stability(root / "stability.json"),
    )


def _stability(file: Path) -> tuple[PairRecord, ...]:
    return tuple(parse(Stability, file).pairs) if file.is_file() else ()


def _measured(root: Path, manifest: Manifest, cell: PlannedCell, measured: Rows) -> MeasuredCell:
    task, threat = manifest.tasks.get(cell.task), manifest.threats.get(cell.threat_model)
    if task is None or threat is None:
        raise RunDirectoryError(
            f"{root / 'plan.json'} has the cell {cell} on {cell.task}, of which run.json says nothing; repeat the run"
        )
    file = measured.cell(cell.key)
    known = task.steered.get(cell.threat_model) if cell.split == "test" else None  # fresh examples have no reference
    rows = compared(up_to(file.rows, task.ceilings.get(cell.threat_model)), known)
    return MeasuredCell(cell, threat, rows, file.code != cell.code, file.perturbations)
