"""A run directory as data: ``run.json``, ``plan.json``, ``cells/*.parquet`` and ``fits/*.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from benchmark.errors import RunDirectoryError
from benchmark.schema import SCHEMA, SCHEMA_VERSION

ESSENTIAL = frozenset(
    {"example_id", "cluster_id", "budget_eps", "sanity", "eligible", "suppressed", "recovered", "selective", "status"}
)
"""Columns without which there is no score."""


class Written(BaseModel):
    """Base of what is read: fields that later versions add are let through."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)


class AttackRecord(Written):
    """An attack that the suite lists."""

    attack: str
    threat_model: str
    constraint: str = "none"

    def __str__(self) -> str:
        return f"{self.attack} ({self.threat_model}/{self.constraint})"


class SuiteRecord(Written):
    """Which suite was run."""

    name: str
    version: str
    hash: str
    tasks: list[str] | None = None
    """All tasks of the suite, also those that this run left out; null: those of the run."""
    attacks: list[AttackRecord] | None = None
    """All attacks of the suite, also those that this run left out; null: the run does not say."""


class ModelRecord(Written):
    """Which model was defended."""

    id: str
    revision: str | None = None
    weights_sha: str | None = None


class TaskRecord(Written):
    """What the suite froze for a task."""

    site: str
    threat_models: list[str] = ["after_edit", "before_edit", "soft_suffix", "token_suffix"]
    """Those that make sense on the task."""
    budgets: list[float]
    """eps of residual attacks."""
    suffix_budgets: list[float] = []
    """eps of suffix attacks, as a share of the embedding norm; none where no suffix can reach."""
    token_budgets: list[float] = []
    """Numbers of tokens of token suffixes; none: there are no such attacks."""
    ceiling: float | None = None
    """Steering ceiling of the residual budgets; null: none."""
    suffix_ceiling: float | None = None
    token_ceiling: float | None = None
    """The same of soft suffixes."""
    tau: float | None = None
    """Largest relative drift that counts as harmless."""
    examples_hash: str | None = None
    """Hash of the test examples."""


class DefenseRecord(Written):
    """The identity of a defense."""

    spec_sha: str


class Manifest(Written):
    """``run.json``."""

    run_id: str
    status: Literal["running", "complete", "interrupted", "partial"]
    started: str | None = None
    finished: str | None = None
    protocol: str
    limit: float | None = None
    suite: SuiteRecord
    model: ModelRecord
    seed: int
    dtype: str
    device: str
    versions: dict[str, JsonValue] = {}
    git: dict[str, JsonValue] | None = None
    tasks: dict[str, TaskRecord]
    defenses: dict[str, DefenseRecord]


class PlannedCell(Written):
    """One entry of ``plan.json``."""

    key: str
    task: str
    defense: str
    attack: str
    threat_model: str
    constraint: str
    goal: Literal["behavior", "wrong"]
    role: Literal["attack", "control"]
    file: str

    @property
    def attacks(self) -> bool:
        """It tries to bring the behavior back, and is no control."""
        return self.role == "attack" and self.goal == "behavior"

    def __str__(self) -> str:
        aim = "" if self.goal == "behavior" else f", goal {self.goal}"
        return f"{self.attack} ({self.threat_model}/{self.constraint}{aim})"


class Plan(Written):
    """``plan.json``."""

    cells: list[PlannedCell]


class UtilityRecord(Written):
    """What a defense costs on held-out text."""

    retained: float | None
    """Null: there is nothing to retain."""
    n: int
    n_clusters: int
    ce_base: float | None = None
    ce_defended: float | None = None


class Fit(Written):
    """``fits/<task>__<defense>.json``."""

    task: str
    defense: str
    record: dict[str, JsonValue] = {}
    utility: UtilityRecord | None = None
    idempotence_gap: float | None = None
    suppressed_fit: float | None = None
    spread: float | None = None
    """Largest difference between equal forwards of the defended model; null: not measured."""
    edit_moved: float | None = None
    """Relative L2 change of the stream by the edits in the scored forward; null: there are none, or not measured."""
    monitor_false_positives: float | None = None
    """Share of the unattacked test examples that the monitor calls attacked; null: there is no monitor."""
    task_figures: dict[str, JsonValue] = {}
    """What the task itself says of the defense."""


@dataclass(frozen=True)
class MeasuredCell:
    """A planned cell and its rows."""

    plan: PlannedCell
    rows: pa.Table


@dataclass(frozen=True)
class Run:
    """One run directory, read whole."""

    manifest: Manifest
    cells: tuple[MeasuredCell, ...]
    missing: tuple[PlannedCell, ...]
    """Planned cells without a file; only a run that is not complete may have any."""
    fits: dict[tuple[str, str], Fit]
    """By (task, defense)."""

    @property
    def planned(self) -> tuple[PlannedCell, ...]:
        """All cells, measured or not."""
        return (*(cell.plan for cell in self.cells), *self.missing)


T = TypeVar("T", bound=Written)


def read_run(directory: Path | str) -> Run:
    """Read a run directory.

    Raises:
        RunDirectoryError: it is missing, incomplete although it says that it is complete, damaged, or of a newer
            version.
    """
    root = Path(directory)
    if not (root / "run.json").is_file():
        raise RunDirectoryError(f"{root} is no run directory: it has no run.json; give a directory that a run wrote")
    manifest, plan = _parse(Manifest, root / "run.json"), _parse(Plan, root / "plan.json")
    missing = tuple(cell for cell in plan.cells if not (root / cell.file).is_file())
    if missing and manifest.status == "complete":
        raise RunDirectoryError(f"{root} says that it is complete, but {missing[0].file} is missing; repeat the run")
    fits = [_parse(Fit, file) for file in sorted((root / "fits").glob("*.json"))]
    return Run(
        manifest=manifest,
        cells=tuple(MeasuredCell(cell, _read_rows(root / cell.file)) for cell in plan.cells if cell not in missing),
        missing=missing,
        fits={(fit.task, fit.defense): fit for fit in fits},
    )


def _parse(kind: type[T], file: Path) -> T:
    try:
        return kind.model_validate_json(file.read_bytes())
    except OSError as error:
        raise RunDirectoryError(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RunDirectoryError(f"{file} is damaged: {place}: {first['msg']}; repeat the run") from error


def _read_rows(file: Path) -> pa.Table:
    """The rows with all columns of this version; those that the file does not have yet are null."""
    try:
        written = pq.read_schema(file)
        rows = pq.read_table(file, schema=SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise RunDirectoryError(f"{file} is damaged: {error}; delete it and repeat the run") from error
    version = int((written.metadata or {}).get(b"recoverybench.schema_version", b"0"))
    if version != SCHEMA_VERSION:
        raise RunDirectoryError(f"{file} has row schema {version}; this version reads {SCHEMA_VERSION}")
    lacking = ESSENTIAL - set(written.names)
    if lacking:
        raise RunDirectoryError(f"{file} lacks the columns {', '.join(sorted(lacking))}; delete it and repeat the run")
    return rows
