"""What is run again and again, and how it ends when nothing goes wrong."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmark.run.equal_rows import CHANGING
from tests.chaos.faults import count_operations
from tests.chaos.process import Process


@dataclass(frozen=True)
class World:
    """A command, and what it leaves when it is let alone."""

    name: str
    options: tuple[str, ...]
    rows: pa.Table
    operations: int
    """On files of the run directory, from the first to the last."""
    writes: int
    """Those that need room on the disk."""
    largest: int
    """Bytes of the largest file."""
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}: {self.rows.num_rows} rows, {self.operations} operations on files, {self.seconds:.1f} s"

    def command(self, root: Path) -> list[str]:
        return ["evaluate", *self.options, "-o", str(root)]

    def differing(self, root: Path, *, exactly: bool = True) -> list[str]:
        """Columns in which a run's rows are not those of the run that was let alone."""
        found = rows_of(root)
        if found.num_rows != self.rows.num_rows:
            return [f"{found.num_rows} rows for {self.rows.num_rows}"]
        names = [n for n in self.rows.column_names if n not in CHANGING]
        same = _equal if exactly else _close
        return [n for n in names if not same(self.rows[n].to_pylist(), found[n].to_pylist())]


def make_world(name: str, options: Sequence[str], folder: Path) -> World:
    """Run the command alone, twice: for its rows and its time, and for what it does to files."""
    made = []
    for number in range(3):
        root, told = folder / f"{name}{number}", folder / f"{name}{number}.operations"
        counting = [None, count_operations(root, told), count_operations(root, told, writing=True)][number]
        begun = time.monotonic()
        ended = Process(["evaluate", *options, "-o", str(root)], counting).wait()
        assert ended.code == 0, ended.err
        made.append((time.monotonic() - begun, told.stat().st_size if counting else 0))
    root = folder / f"{name}0"
    largest = max(f.stat().st_size for f in root.rglob("*") if f.is_file())
    world = World(name, tuple(options), rows_of(root), made[1][1], made[2][1], largest, made[0][0])
    assert not world.differing(folder / f"{name}1"), "it is not the same when nothing goes wrong"
    return world


def rows_of(root: Path) -> pa.Table:
    """All rows in the order of the plan."""
    cells = json.loads((root / "plan.json").read_bytes())["cells"]
    files = [pq.ParquetFile(root / cell["file"]) for cell in cells if (root / cell["file"]).is_file()]
    return pa.concat_tables([file.read(use_threads=False) for file in files])


def finished_cells(root: Path) -> dict[str, int]:
    """Cell without failed rows -> when it was written."""
    found = {}
    for file in sorted((root / "cells").glob("*.parquet")):
        metadata = pq.read_schema(file).metadata or {}
        if metadata.get(b"recoverybench.errors") == b"0":
            found[file.name] = file.stat().st_mtime_ns
    return found


def contents(root: Path) -> dict[str, str]:
    """File -> hash of what it holds, but for the lock."""
    files = [f for f in root.rglob("*") if f.is_file() and f.name != ".lock"]
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def _equal(a: list[object], b: list[object]) -> bool:
    return repr(a) == repr(b)  # NaN is equal to itself there


def _close(a: list[object], b: list[object]) -> bool:
    return all(_near(x, y) for x, y in zip(a, b, strict=True))


def _near(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 2e-3 * max(1.0, abs(b)) or repr(a) == repr(b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_near, a, b))
    return a == b
