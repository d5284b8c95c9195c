"""Columns of a row table as numpy arrays, nulls included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, np.dtype[Any]]


def text(rows: pa.Table, name: str) -> Array:
    """A text column, (rows,); null is the empty string."""
    return rows.column(name).fill_null("").to_numpy().astype(str)


def real(rows: pa.Table, name: str) -> Array:
    """A numeric column, (rows,) float64; null is NaN, which stays inside this package."""
    return rows.column(name).cast(pa.float64()).to_numpy().astype(float)


def optional(rows: pa.Table, name: str) -> Array:
    """The same for a column that not every version writes; without it all NaN."""
    return real(rows, name) if name in rows.column_names else np.full(rows.num_rows, np.nan)


def flag(rows: pa.Table, name: str, null: bool = False) -> Array:
    """A yes/no column, (rows,) bool; ``null`` is what a null counts as."""
    return rows.column(name).fill_null(null).to_numpy().astype(bool)


def carries(rows: pa.Table, code: str) -> Array:
    """Which rows carry the flag ``code``, (rows,) bool."""
    listed = rows.column("flags").combine_chunks()
    found = np.zeros(rows.num_rows, dtype=bool)
    if rows.num_rows:
        parents = pc.call_function("list_parent_indices", [listed]).to_numpy()
        codes = pc.call_function("list_flatten", [listed]).to_pylist()
        found[[row for row, carried in zip(parents, codes, strict=True) if carried == code]] = True
    return found


def where(rows: pa.Table, keep: Array) -> pa.Table:
    """The rows of which ``keep``, (rows,) bool, is true."""
    return rows if keep.all() else rows.filter(pa.array(keep, type=pa.bool_()))


def counts(values: Array) -> dict[str, int]:
    """How often each text occurs, (rows,), less the empty one; by name."""
    names, found = np.unique(values[values != ""], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, found, strict=True)}


def known_median(values: Array) -> float | None:
    """The median of what is not NaN; null: nothing is."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def known_mean(values: Array) -> float | None:
    """The mean of what is not NaN; null: nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
