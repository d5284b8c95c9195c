"""How far a run is, read from its directory by whoever sees it: from another terminal, or another machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmark.errors import RunDirectoryError
from benchmark.run.bill import ATTACKS, CONTROLS
from benchmark.run.ownership import read_json


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    status: str
    """As run.json has it; ``killed``: it says that it is running, and nobody has the directory."""
    held: bool
    """A process of this machine has the directory, or of another on a file system that shares locks."""
    cells: Mapping[tuple[str, str], tuple[int, int]]
    """(task, defense) -> cells that are done, and all."""
    at: Mapping[str, str]
    """Worker -> what it began last, and how long ago."""
    seconds: float
    """Since the run was begun, or taken up."""
    left: float | None
    """Seconds that are left at the pace of this run; None: nothing was finished in it yet, or nothing is left."""
    failures: int

    @property
    def done(self) -> int:
        return sum(done for done, _ in self.cells.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self.cells.values())

    def describe(self) -> dict[str, Any]:
        """As JSON values."""
        groups = [{"task": t, "defense": d, "done": n, "cells": of} for (t, d), (n, of) in self.cells.items()]
        known = {"status": self.status, "held": self.held, "done": self.done, "cells": self.total, "groups": groups}
        return {**known, "at": dict(self.at), "seconds": self.seconds, "left": self.left, "failures": self.failures}


def progress(root: Path, now: float | None = None) -> Progress:
    """How far the run in a directory is.

    Args:
        now: seconds since 1970; None: it is now.

    Raises:
        RunDirectoryError: it is no run directory, or its plan cannot be read.
    """
    now = time.time() if now is None else now
    plan = read_json(root / "plan.json").get("cells", []) if (root / "plan.json").is_file() else []
    if not plan:
        raise RunDirectoryError(f"{root} is no run directory: it has no plan; give the --output-dir of an evaluation")
    header = read_json(root / "run.json") if (root / "run.json").is_file() else {}
    finished = {cell["key"]: _written(root / cell["file"]) for cell in plan}
    began = _began(header, now)
    held, status = _held(root), str(header.get("status", "not begun"))
    groups = dict.fromkeys((cell["task"], cell["defense"]) for cell in plan)
    events = list(_events(root / "events.jsonl"))
    running = status == "running"
    return Progress(
        status="killed" if running and not held else status,
        held=held,
        cells={group: _count(plan, finished, group) for group in groups},
        at=dict(_at(events, began, now)) if running and held else {},
        seconds=(now if running else max([began, *(t for t in finished.values() if t)])) - began,
        left=_left(plan, finished, header.get("estimate"), began, now) if running and held else None,
        failures=sum(event.get("event") == "error" and event.get("time", 0) >= began for event in events),
    )


def _written(file: Path) -> float | None:
    with suppress(OSError):
        return file.stat().st_mtime
    return None


def _began(header: Mapping[str, Any], now: float) -> float:
    with suppress(KeyError, ValueError, TypeError):
        return datetime.fromisoformat(header["started"]).timestamp()
    return now


def _held(root: Path) -> bool:
    lock = root / ".lock"
    if not lock.is_file():
        return False
    try:
        with FileLock(str(lock), timeout=0):
            return False
    except Timeout:
        return True


def _count(
    plan: Iterable[Mapping[str, Any]], finished: Mapping[str, float | None], group: tuple[str, str]
) -> tuple[int, int]:
    mine = [finished[cell["key"]] for cell in plan if (cell["task"], cell["defense"]) == group]
    return sum(written is not None for written in mine), len(mine)


def _events(file: Path) -> Iterator[dict[str, Any]]:
    """Lines that can be read: the last one may be written just now."""
    with suppress(OSError):
        for line in file.read_text("utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                yield json.loads(line)


def _at(events: Iterable[Mapping[str, Any]], began: float, now: float) -> Iterator[tuple[str, str]]:
    for event in events:
        if event.get("event") in ("fitting", "attacking") and event["time"] >= began:
            ago = f"{now - event['time']:.0f} s ago"
            yield event["worker"], f"{event['event']} {event['defense']} on {event['task']}, {ago}"


def _left(
    plan: Iterable[Mapping[str, Any]],
    finished: Mapping[str, float | None],
    estimate: Mapping[str, Any] | None,
    began: float,
    now: float,
) -> float | None:
    """What is left, in the proportion in which cells were estimated, at the pace of those that this run has done."""
    done, left = 0.0, 0.0
    shares = _shares(list(plan), estimate)
    for cell in plan:
        written = finished[cell["key"]]
        if written is None:
            left += shares[cell["key"]]
        elif written >= began:
            done += shares[cell["key"]]
    return (now - began) * left / done if done and left else None


def _shares(plan: list[Mapping[str, Any]], estimate: Mapping[str, Any] | None) -> dict[str, float]:
    """By key of a cell what part of its task's estimated seconds it is: those of one kind are taken for equal."""
    kinds = {cell["key"]: (cell["task"], CONTROLS if cell["role"] == "control" else ATTACKS) for cell in plan}
    counts = {kind: sum(other == kind for other in kinds.values()) for kind in set(kinds.values())}
    seconds = (estimate or {}).get("seconds", {})

    def share(task: str, kind: str) -> float:
        known = seconds.get(task, {}).get(kind)
        return max(known, 1e-3) / counts[task, kind] if known is not None else 1.0

    return {key: share(*kind) for key, kind in kinds.items()}
