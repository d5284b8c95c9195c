"""What a run costs, in the words that an estimate and a run that is over share."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch

from benchmark.run.plan import Cell

CONSTANTS, FITS, ATTACKS, CONTROLS = "constants", "fits", "attacks", "controls"
KINDS = (CONSTANTS, FITS, ATTACKS, CONTROLS)
"""What a run spends its time on, by task."""


def kind_of(cell: Cell) -> str:
    """What the time of a cell is called."""
    return CONTROLS if cell.attack.is_control else ATTACKS


@dataclass
class Bill:
    """Seconds by task and kind, and what they bought: of an estimate, or of what was run."""

    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: int = 0
    forwards: int = 0
    backwards: int = 0
    """Rows of passes: of an estimate the most that searches can ask."""
    memory_mb: float = 0.0

    def add(self, task: str, kind: str, seconds: float) -> None:
        mine = self.seconds.setdefault(task, dict.fromkeys(KINDS, 0.0))
        mine[kind] += seconds

    @contextmanager
    def timed(self, task: str, kind: str) -> Iterator[None]:
        """Put the time of the block on the bill, however it ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(task, kind, time.perf_counter() - began)

    def count(self, rows: pa.Table) -> None:
        """Put the rows of a cell on the bill."""
        self.rows += rows.num_rows
        self.forwards += sum(n or 0 for n in rows["forwards"].to_pylist())
        self.backwards += sum(n or 0 for n in rows["backwards"].to_pylist())

    def merge(self, other: Bill) -> None:
        """Put another bill on this one."""
        for task, kinds in other.seconds.items():
            for kind, seconds in kinds.items():
                self.add(task, kind, seconds)
        self.rows += other.rows
        self.forwards += other.forwards
        self.backwards += other.backwards

    @property
    def total(self) -> float:
        return sum(sum(kinds.values()) for kinds in self.seconds.values())

    def describe(self) -> dict[str, Any]:
        """As JSON values, for run.json."""
        return {
            "total_seconds": round(self.total, 2),
            "seconds": {t: {k: round(s, 2) for k, s in kinds.items()} for t, kinds in self.seconds.items()},
            "rows": self.rows,
            "forwards": self.forwards,
            "backwards": self.backwards,
            "memory_mb": round(self.memory_mb),
        }


def peak_mb(device: torch.device | None = None) -> float:
    """The most memory that the process has held so far: on the device, where it has memory of its own."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def foretold(expected: Mapping[str, Any]) -> str:
    """What is said before a run."""
    more = f" ({'; '.join(expected['left_out'])})" if expected["left_out"] else ""
    return f"{estimated(expected)} for {expected['cells']} cells, up to {expected['memory_mb']} MB of memory{more}"


def compared(expected: Mapping[str, Any], took: Mapping[str, Any]) -> str:
    """The last line of a run."""
    return f"{estimated(expected)}, took {spoken(took['total_seconds'])}"


def estimated(expected: Mapping[str, Any]) -> str:
    """An estimate in words; where nothing could be tried of some of it, it says that it is a lower bound."""
    if not expected["total_seconds"]:
        return "no estimate of the time"
    unknown = expected["left_out"] or any(None in kinds.values() for kinds in expected["seconds"].values())
    return f"estimated {'at least ' if unknown else ''}{spoken(expected['total_seconds'])}"


def spoken(seconds: float) -> str:
    """A time as one says it."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
