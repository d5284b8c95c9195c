"""What somebody may do to an entry, and seal again so that every hash is right."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from benchmark.contracts.attack import Attempt
from benchmark.contracts.row import SCHEMA
from leaderboard.bundle.layout import ENTRY, ROWS, SCORES
from leaderboard.bundle.reading import digests
from leaderboard.rows.files import CellFile, Rows, write_together
from leaderboard.rows.run import read_run
from leaderboard.verification import live
from leaderboard.verification.recomputed import scores_of

Row = dict[str, Any]


def nothing(attack: Any, problem: Any) -> Attempt:
    """What an attack does that does not look anywhere, in the place of its ``run``."""
    return Attempt(problem.zeros(), torch.ones_like(problem.budget, dtype=torch.bool))


def in_this_process(asked: Path, folder: Path) -> int:
    """The process with the model is this one, where the toy task is registered."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["live", str(asked), str(folder)])
        live.main()
    return 0


def copied(entry: Path, folder: Path) -> Path:
    """A copy of an entry, at the same place below another folder."""
    target = folder.joinpath(*entry.parts[-3:])
    shutil.copytree(entry, target)
    return target


def sealed(entry: Path) -> Path:
    """The entry with the hashes of the files as they are now."""
    edit_json(entry / ENTRY, lambda said: said.update(files=digests(entry)))
    return entry


def scored(entry: Path) -> Path:
    """The same, with the scores that follow from the rows as they are now."""
    defense = json.loads((entry / ENTRY).read_text())["defense"]
    (entry / SCORES).write_text(json.dumps(scores_of(read_run(entry), defense)))
    return sealed(entry)


def edit_json(file: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def edit_rows(
    entry: Path, key: str, change: Callable[[list[Row]], list[Row]], perturbations: str | None = None
) -> None:
    """Change the rows of a cell, and which perturbations it names."""
    rows = Rows(entry)
    cells = {name: rows.cell(name) for name in rows.keys}
    old = cells[key]
    made = pa.Table.from_pylist(change(old.rows.to_pylist()), schema=SCHEMA)
    cells[key] = CellFile(made, old.code, old.perturbations if perturbations is None else perturbations)
    write_together(entry / ROWS, cells)


def cell_of(entry: Path, attack: str, threat: str, **more: str) -> dict[str, Any]:
    """The planned cell of an attack of the handed-in defense, on the test examples unless ``more`` says otherwise."""
    wanted = {"attack": attack, "threat_model": threat, "goal": "behavior", "split": "test", **more}
    cells = json.loads((entry / "plan.json").read_text())["cells"]
    return next(c for c in cells if c["defense"] != "none" and all(c[k] == v for k, v in wanted.items()))
