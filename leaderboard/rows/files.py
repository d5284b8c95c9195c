"""The Parquet files of rows: a file a cell in a run directory, one of all of them in what is handed in.

A file may be anybody's, so that it is looked at before it is unpacked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmark.contracts.row import SCHEMA, SCHEMA_VERSION
from benchmark.errors import RunDirectoryError

ESSENTIAL = frozenset(
    {"example_id", "cluster_id", "budget_eps", "sanity", "eligible", "suppressed", "recovered", "eps_star", "status"}
)
"""Columns without which there is no score."""
TOGETHER = "rows.parquet"
"""The rows of all cells, where a folder has it."""
MOST_ROWS = 20_000_000
MOST_BYTES = 4_000_000_000
"""Unpacked. The largest run that was seen has some 150,000 rows and 60 MB."""
_CODE, _PERTURBATIONS, _CELLS = b"recoverybench.code", b"recoverybench.perturbations", b"recoverybench.cells"


class CellFile(NamedTuple):
    """The rows of a cell, and what is said of them."""

    rows: pa.Table
    """With all columns of this version; what the file does not have is null."""
    code: Any
    """Which code made it, by part; None: it does not say."""
    perturbations: str
    """SHA-256 of the file with its perturbations; empty: it names none."""


class Rows:
    """The cells of a folder, by key.

    Raises:
        RunDirectoryError: the file that all are in is damaged, too large or of another version.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._all = load(root / TOGETHER) if (root / TOGETHER).exists() else None

    def has(self, key: str) -> bool:
        """Whether the cell has been measured."""
        return self._own(key).is_file() if self._all is None else key in self._told

    def cell(self, key: str) -> CellFile:
        """A cell that is there.

        Raises:
            RunDirectoryError: its file is damaged, too large or of another version.
        """
        if self._all is not None:
            rows, told = self._all[0], self._told[key]
            return CellFile(
                rows.filter(pc.field("cell_key") == key), told.get("code"), str(told.get("perturbations", ""))
            )
        rows, metadata = load(self._own(key))
        return CellFile(rows, _json(metadata.get(_CODE)), metadata.get(_PERTURBATIONS, b"").decode(errors="replace"))

    @property
    def keys(self) -> list[str]:
        """Of the cells that have rows; of a run directory, of the cells that have a file."""
        if self._all is None:
            return sorted(file.stem for file in (self._root / "cells").glob("*.parquet"))
        return sorted({*map(str, self._all[0]["cell_key"].unique().to_pylist()), *self._told})

    @property
    def _told(self) -> Mapping[str, Mapping[str, Any]]:
        found = None if self._all is None else _json(self._all[1].get(_CELLS))
        return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}

    def _own(self, key: str) -> Path:
        return self._root / "cells" / f"{key}.parquet"


def write_together(path: Path, cells: Mapping[str, CellFile]) -> None:
    """One file of the rows of cells, by key."""
    told = {key: {"code": cell.code, "perturbations": cell.perturbations} for key, cell in cells.items()}
    rows = pa.concat_tables([cell.rows for cell in cells.values()])
    marked = rows.replace_schema_metadata({**(SCHEMA.metadata or {}), _CELLS: json.dumps(told, sort_keys=True)})
    floats = [field.name for field in SCHEMA if pa.types.is_floating(field.type)]
    few = [field.name for field in SCHEMA if field.name not in floats and not pa.types.is_list(field.type)]
    encoded: dict[str, Any] = {"use_byte_stream_split": floats, "use_dictionary": few}  # a sixth smaller
    pq.write_table(marked, path, compression="zstd", compression_level=19, write_page_checksum=True, **encoded)


def load(file: Path) -> tuple[pa.Table, Mapping[bytes, bytes]]:
    """The rows of a file, with all columns of this version, and its metadata.

    Raises:
        RunDirectoryError: it is damaged, too large, or of another version.
    """
    rows, written = table_of(file, SCHEMA)
    metadata = written.metadata or {}
    version = metadata.get(b"recoverybench.schema_version", b"0").decode(errors="replace")
    if version != str(SCHEMA_VERSION):
        raise RunDirectoryError(f"{file} has row schema {version:.20}; this version reads {SCHEMA_VERSION}")
    lacking = ESSENTIAL - set(written.names)
    if lacking:
        raise RunDirectoryError(f"{file} lacks the columns {', '.join(sorted(lacking))}; delete it and repeat the run")
    return rows, metadata


def table_of(file: Path, schema: pa.Schema) -> tuple[pa.Table, pa.Schema]:
    """A table of columns that are known, those that the file does not have null; and the schema that the file has.

    Raises:
        RunDirectoryError: it is damaged, or too large.
    """
    try:
        told = pq.read_metadata(file)
        _refuse_large(file, told)
        rows = pq.read_table(file, schema=schema, page_checksum_verification=True)
        rows.validate(full=True)  # texts that are none
        return rows, told.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunDirectoryError(f"{file} is damaged: {_first_line(error)}; repeat the run") from error


def _refuse_large(file: Path, told: pq.FileMetaData) -> None:
    """A few bytes may unpack into more than any memory holds."""
    size = sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups))
    if told.num_rows > MOST_ROWS or size > MOST_BYTES:
        raise RunDirectoryError(
            f"{file} says that it holds {told.num_rows} rows of {size} bytes; no run has more than {MOST_ROWS} rows "
            f"and {MOST_BYTES} bytes: give a run's own file"
        )


def _json(told: bytes | None) -> Any:
    try:
        return None if told is None else json.loads(told)
    except ValueError:
        return "unreadable"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
