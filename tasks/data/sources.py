"""Reading records: files, hub data sets, and sources that are registered.

questions.csv                           .csv, .json (a list of objects), .jsonl or .parquet
hub:cais/mmlu@COMMIT:astronomy    a hub data set, pinned by the whole hash of a commit (``tasks.data.hub``)
organism:ioi                            an item of a registered source
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.registry import SOURCES
from benchmark.sealed import refuse_while_learning
from tasks.data.hub import HUB, read_hub

Records = Sequence[Mapping[str, Any]]


def read_records(source: str, splits: Sequence[str] = ()) -> Records:
    """All records of a source; those of hub ``splits`` alone, where some are named.

    Raises:
        UsageError: there is no such source, it cannot be read, or it is empty.
    """
    refuse_while_learning(f"the data of {source}")
    records = _reader(source)(source, splits)
    if not records:
        raise UsageError(f"{source} is empty: it has no records; give another file")
    return records


def fresh_records(source: str, key: str, count: int) -> Records:
    """New records of the kind of a registered source's ``test`` split, made from ``key``; none: it makes none.

    A source makes them by a function ``fresh`` of (item, key, count) that its registered function has.
    """
    refuse_while_learning("fresh examples")
    name, separator, item = source.partition(":")
    if not separator or name not in SOURCES.names():
        return ()
    make = getattr(SOURCES.get(name), "fresh", None)
    return make(item, key, count) if make else ()


def _reader(source: str) -> Callable[[str, Sequence[str]], Records]:
    if source.startswith(HUB):
        return read_hub
    if Path(source).suffix in FILES:
        return _file
    if ":" in source:
        return _registered
    raise UsageError(
        f"{source!r} is no source of data; write a file ({', '.join(FILES)}), hub:OWNER/NAME@COMMIT, or NAME:ITEM of a"
        f" registered source: {', '.join(SOURCES.names())}"
    )


def _registered(source: str, splits: Sequence[str]) -> Records:
    name, _, item = source.partition(":")
    return SOURCES.get(name)(item)


def _file(source: str, splits: Sequence[str]) -> Records:
    path = Path(source)
    if not path.is_file():
        raise UsageError(f"there is no data file {source!r}; give the path of one, from here or from the suite")
    try:
        return FILES[path.suffix](path)
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{source} cannot be read as {path.suffix}: {error}; save it again, or as another kind of file"
        ) from error


def _csv(path: Path) -> Records:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        header = list(reader.fieldnames or ())
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise ValueError(f"the header names {', '.join(twice)} twice")
        records = list(reader)
    for number, record in enumerate(records, 1):
        if None in record:  # DictReader's key for what the header has no name for
            raise ValueError(f"row {number} has more cells than the header, {len(header)}; quote texts with commas")
    return records


def _json(path: Path) -> Records:
    return _objects(json.loads(path.read_text("utf-8")))


def _json_lines(path: Path) -> Records:
    lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    return _objects([_line(number, line) for number, line in enumerate(lines, 1)])


def _line(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"row {number}: {error}") from error


def _objects(content: Any) -> Records:
    if not isinstance(content, list):
        raise ValueError(f"it holds a {type(content).__name__}; expected a list of objects, one a row")
    for number, record in enumerate(content, 1):
        if not isinstance(record, dict):
            raise ValueError(f"row {number} is a {type(record).__name__}; expected an object, column by column")
    return content


def _parquet(path: Path) -> Records:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


FILES: Mapping[str, Callable[[Path], Records]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
"""What a file is read by, by its ending."""
