"""What the process with the model leaves: tables of what it measured, and what it says of each task."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pydantic import JsonValue

from benchmark.errors import RunDirectoryError
from leaderboard.rows.files import table_of
from leaderboard.rows.recorded import strict_json
from leaderboard.scores.values import Strict

REFERENCE = pa.schema(
    [
        ("split", pa.string()),
        ("example_id", pa.string()),
        ("eligible", pa.bool_()),
        ("suppressed", pa.bool_()),
        ("label_base", pa.string()),
        ("label_defended", pa.string()),
        ("margin_base", pa.float64()),
        ("margin_defended", pa.float64()),
    ]
)
"""``<task>.reference.parquet``: an example a row."""
REPLAYED = pa.schema(
    [
        ("cell_key", pa.string()),
        ("example_id", pa.string()),
        ("budget_eps", pa.float64()),
        ("label", pa.string()),
        ("margin", pa.float64()),
        ("recovered", pa.bool_()),
        ("norm", pa.float64()),
        ("violation", pa.float64()),
        ("drift_abs", pa.float64()),
    ]
)
"""``<task>.replayed.parquet``: a perturbation a row; null where it was written nowhere that the attack may write."""


class OfTask(Strict):
    """What was found on a task."""

    failed: str | None = None
    """What was raised; null: nothing."""
    fingerprint: str | None = None
    """How the defense, fitted anew, differs from the run's; null: it does not."""
    fit: dict[str, JsonValue] = {}
    """What fitting it anew found, as ``fits/<task>__<defense>.json`` has it."""
    seconds: float = 0.0


class Found(Strict):
    """``found.json``."""

    failed: str | None
    """Why nothing could be begun; null: it could."""
    same_code: bool
    """The engine here is the one that the run was made with."""
    tasks: dict[str, OfTask]
    sampled: list[str]
    """Keys of the cells that were attacked again."""
    environment: dict[str, JsonValue]


def read_found(folder: Path) -> Found:
    """``found.json`` of a folder.

    Raises:
        RunDirectoryError: the process left none.
    """
    file = folder / "found.json"
    if not file.is_file():
        raise RunDirectoryError(
            f"{folder} has no found.json: the process with the model ended early; repeat the command"
        )
    return Found.model_validate(strict_json(file))


def rows_of(folder: Path, task: str, what: str, schema: pa.Schema) -> list[dict[str, object]]:
    """A table of a task; nothing where it was not made."""
    file = folder / f"{task}.{what}.parquet"
    return table_of(file, schema)[0].to_pylist() if file.is_file() else []
