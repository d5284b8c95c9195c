"""Which rows count, and for what."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from leaderboard.rows.arrays import Array, flag, real, text, where

ROUNDING = 1 + 1e-9
"""Budgets that differ by less, relatively, are one."""


def up_to(rows: pa.Table, ceiling: float | None) -> pa.Table:
    """The rows, those at budgets above ``ceiling`` marked as serving the sanity flags only."""
    if ceiling is None:
        return rows
    beyond = flag(rows, "sanity") | (real(rows, "budget_eps") > ceiling * ROUNDING)
    return rows.set_column(rows.column_names.index("sanity"), "sanity", pa.array(beyond, type=pa.bool_()))


def recovers(rows: pa.Table) -> Array:
    """Which rows are recoveries, (rows,) bool; a row that failed is none."""
    return flag(rows, "recovered") & (text(rows, "status") != "error")


def ranked(rows: pa.Table) -> pa.Table:
    """Rows of eligible examples at budgets up to the steering ceiling."""
    return where(rows, flag(rows, "eligible") & ~flag(rows, "sanity"))


def failed(rows: pa.Table) -> pa.Table:
    """Ranked rows whose attack ended in an error; they count as not recovered."""
    kept = ranked(rows)
    return where(kept, text(kept, "status") == "error")


def attacked(rows: pa.Table) -> pa.Table:
    """Rows, of suppressed examples at ranked budgets, that an attack has really worked on: what it did, not how often
    it succeeded, since failed rows are not among them."""
    kept = ranked(rows)
    return where(kept, flag(kept, "suppressed") & (text(kept, "status") == "ok"))


def skipped(rows: pa.Table) -> str | None:
    """Why the attack did not apply to any suppressed example; null: it did, or there was none."""
    kept = where(rows, flag(rows, "eligible") & flag(rows, "suppressed"))
    if not kept.num_rows or (text(kept, "status") != "not_run").any():
        return None
    return next((why for why in text(kept, "error") if why), "not run")


def monitored(rows: pa.Table) -> bool:
    """Whether a monitor has watched any of the rows."""
    return rows.column("detected").null_count < rows.num_rows


def first_successes(rows: pa.Table) -> pa.Table:
    """One row of each recovered example: at its smallest budget, there at its smallest perturbation."""
    kept = ranked(rows)
    kept = where(kept, recovers(kept))
    order = np.lexsort((real(kept, "seed"), real(kept, "first_success_eps"), real(kept, "budget_eps")))
    _, first = np.unique(text(kept, "example_id")[order], return_index=True)
    return kept.take(pa.array(order[first], type=pa.int64()))
