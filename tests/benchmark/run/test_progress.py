"""How far a run is, as its directory says: done, at work, killed, and how long it still takes."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from benchmark.errors import RunDirectoryError
from benchmark.run import display
from benchmark.run.display import Live
from benchmark.run.progress import progress

BEGAN = 1_800_000_000.0
ESTIMATE = {"seconds": {"ioi": {"attacks": 90.0, "controls": 10.0}}}


def cell(key: str, role: str = "attack", defense: str = "clamp") -> dict[str, Any]:
    return {"key": key, "task": "ioi", "defense": defense, "role": role, "file": f"cells/{key}.parquet"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run of two attacks and two controls; one of each is done, the control before this run took it up."""
    (tmp_path / "cells").mkdir()
    cells = [cell("a"), cell("b"), cell("c", "control"), cell("d", "control", "none")]
    (tmp_path / "plan.json").write_text(json.dumps({"cells": cells}))
    started = datetime.fromtimestamp(BEGAN, UTC).isoformat()
    (tmp_path / "run.json").write_text(json.dumps({"status": "running", "started": started, "estimate": ESTIMATE}))
    for key, when in {"a": BEGAN + 50, "d": BEGAN - 500}.items():
        file = tmp_path / "cells" / f"{key}.parquet"
        file.touch()
        os.utime(file, (when, when))
    events = [
        {"time": BEGAN - 9, "event": "attacking", "task": "ioi", "defense": "old", "worker": "there:1"},
        {"time": BEGAN + 40, "event": "fitting", "task": "ioi", "defense": "clamp", "worker": "here:2"},
        {"time": BEGAN + 70, "event": "attacking", "task": "ioi", "defense": "clamp", "worker": "here:2"},
        {"time": BEGAN + 80, "event": "error", "what": "x"},
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)) + '\n{"time": 18')
    return tmp_path


def test_a_run_at_work_says_what_is_done_and_how_long_it_takes(root: Path) -> None:
    with FileLock(root / ".lock"):
        found = progress(root, BEGAN + 100)
    assert (found.status, found.held, found.done, found.total, found.failures) == ("running", True, 2, 4, 1)
    assert found.cells == {("ioi", "clamp"): (1, 3), ("ioi", "none"): (1, 1)}
    assert found.at == {"here:2": "attacking clamp on ioi, 30 s ago"}
    assert found.seconds == 100
    # of what this run has done: an attack, 45 of the estimated seconds, in 100 s; an attack and a control, 50, are left
    assert found.left == pytest.approx(100 * (45 + 5) / 45)


def test_without_an_estimate_cells_are_equal(root: Path) -> None:
    header = json.loads((root / "run.json").read_text())
    (root / "run.json").write_text(json.dumps(header | {"estimate": None}))
    with FileLock(root / ".lock"):
        assert progress(root, BEGAN + 100).left == pytest.approx(200)


def test_a_run_that_nobody_holds_was_killed(root: Path) -> None:
    (root / ".lock").touch()
    found = progress(root, BEGAN + 100)
    assert (found.status, found.held, found.left, found.at) == ("killed", False, None, {})


def test_a_run_that_is_over_says_so(root: Path) -> None:
    header = json.loads((root / "run.json").read_text())
    (root / "run.json").write_text(json.dumps(header | {"status": "complete"}))
    found = progress(root, BEGAN + 9999)
    assert found.status == "complete" and found.left is None and found.seconds == 50


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is no run directory"):
        progress(tmp_path)


def test_it_is_json_too(root: Path) -> None:
    said = progress(root, BEGAN + 100).describe()
    assert json.loads(json.dumps(said))["groups"][0] == {"task": "ioi", "defense": "clamp", "done": 1, "cells": 3}


def test_where_there_is_no_terminal_a_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "MINUTE", 0.05)
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, record=True, width=120)
        with Live(console) as live:
            live.progress.update(live.bar, total=4, completed=1, description="ioi: fitting clamp")
            assert live._over.wait(0.3) is False
        said = console.export_text()
    assert "0 min: 1 of 4 cells; ioi: fitting clamp" in said
