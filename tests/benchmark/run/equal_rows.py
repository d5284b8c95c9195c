"""When two runs have the same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from benchmark.contracts.row import SCHEMA
from benchmark.run.runner import Result

CHANGING = {"run_id", "seconds", "peak_memory_mb", "threads"}
"""Columns that are about the run and not about the result."""
EXACT = {"eps_star"}
"""Numbers that are values of a grid."""
DIFFERENCES = {"slope_gap": 2e-2, "slope_ratio": 2e-2}
"""Numbers made of finite differences of fp32, in which rounding is larger."""


def same_results(a: Result, b: Result) -> None:
    """Equal rows."""
    same_rows(a.rows, b.rows)


def same_rows(a: pa.Table, b: pa.Table) -> None:
    """Outcomes are equal exactly, measured numbers to rounding."""
    left, right = a.combine_chunks(), b.combine_chunks()
    assert left.num_rows == right.num_rows
    for name in set(SCHEMA.names) - CHANGING:
        one, other = _numbers(left, name), _numbers(right, name)
        if one is None or other is None:
            assert left[name].to_pylist() == right[name].to_pylist(), name
        else:
            close = DIFFERENCES.get(name, 2e-3)
            assert one.shape == other.shape and np.allclose(one, other, rtol=close, atol=close, equal_nan=True), name


def _numbers(rows: pa.Table, name: str) -> Any:
    """A column of measured numbers as an array; None: it holds something else."""
    column = rows[name]
    if pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type):
        return np.concatenate(
            [[np.nan] if numbers is None else [len(numbers), *numbers] for numbers in column.to_pylist()]
        )
    return column.to_numpy() if pa.types.is_floating(column.type) and name not in EXACT else None
