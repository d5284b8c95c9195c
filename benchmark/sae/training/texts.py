"""Texts of a file: paragraphs of plain text, or one column of JSON Lines, CSV or Parquet."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import UsageError
from benchmark.values import file_hash


class Texts(NamedTuple):
    """What a file says, and which one it was."""

    name: str
    sha256: str
    texts: list[str]


def read_texts(path: Path, column: str = "text") -> Texts:
    """The texts of a file that are not blank, in its order.

    Raises:
        UsageError: no such file, a kind that is not read, no such column, a value that is no text, or no text at all.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give a text file, hub:OWNER/NAME@REV/FILE, or the word model")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} is not a kind of text that is read; there are {', '.join(_READERS)}")
    try:
        found = [text for text in reader(path, column) if text.strip()]
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}; save it as UTF-8 {path.suffix} again") from error
    if not found:
        raise UsageError(f"{path} has no text in it; give another file")
    return Texts(path.name, file_hash(path), found)


def _paragraphs(path: Path, _column: str) -> Iterator[str]:
    yield from (part.strip("\n") for part in re.split(r"\n(?:[ \t]*\n)+", path.read_text("utf-8-sig")))


def _json_lines(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UsageError(f"{path}, line {number}: {type(row).__name__}, no object; write one a line")
                yield _cell(path, f"line {number}", row, column)


def _csv(path: Path, column: str) -> Iterator[str]:
    csv.field_size_limit(2**27)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        _has(path, rows.fieldnames or (), column)
        for row in rows:
            yield _cell(path, f"line {rows.line_num}", row, column)


def _parquet(path: Path, column: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        _has(path, file.schema_arrow.names, column)
        for batch in file.iter_batches(columns=[column]):
            for value in batch.column(0).to_pylist():
                yield _text(path, "a row", value, column)
    except pyarrow.ArrowException as error:
        raise UsageError(f"{path} is no sound Parquet file: {error}; save it again") from error


_READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".txt": _paragraphs,
    ".md": _paragraphs,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _has(path: Path, columns: Any, column: str) -> None:
    if column not in columns:
        there = ", ".join(map(str, columns)) or "none"
        raise UsageError(f"{path} has no column {column!r}; its columns are {there}: choose one with --column")


def _cell(path: Path, where: str, row: dict[str, Any], column: str) -> str:
    _has(path, row, column)
    return _text(path, where, row[column], column)


def _text(path: Path, where: str, value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{path}, {where}: {column!r} is a {type(value).__name__}; give text, with --column")
    return value
