"""What a recovery is compared with: the wrong target on the undefended model, which no defense can move (METHOD 8).

It is looked up when rows are read, so that nothing that a run did, or failed to do, beside an attack can change it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from benchmark.contracts.row import SCHEMA
from leaderboard.rows.arrays import flag, real, text

COMPARED = pa.schema(
    [
        *SCHEMA,
        pa.field("eps_star_wrong", pa.float64()),  # null: the undefended model is steered at no budget, or not known
        pa.field("selective", pa.bool_()),  # the goal is reached at a smaller budget; null: nothing to compare with
    ],
    metadata=SCHEMA.metadata,
)
"""The columns of the rows and, behind them, those of the comparison."""


def compared(rows: pa.Table, steered: Mapping[str, float] | None) -> pa.Table:
    """The rows with the columns of the comparison.

    Args:
        steered: smallest budget at which the undefended model is steered to each example's wrong target; an example
            that is left out: at none. Null: not known, and nothing is said to be selective or not.
    """
    known = steered or {}
    wrong = np.array([known.get(example, np.inf) for example in text(rows, "example_id")], dtype=float)
    sooner = flag(rows, "recovered") & (real(rows, "eps_star") < wrong)
    unknown = rows.column("recovered").is_null().to_numpy() | (steered is None)
    stars = pa.array(wrong, pa.float64(), mask=np.isinf(wrong))
    both = {"eps_star_wrong": stars, "selective": pa.array(sooner, pa.bool_(), mask=unknown)}
    columns = [rows.column(name) for name in SCHEMA.names]
    return pa.Table.from_arrays([*columns, *both.values()], schema=COMPARED)


def is_compared(rows: pa.Table) -> bool:
    """Whether there is anything to compare with."""
    return rows.column("selective").null_count < rows.num_rows
