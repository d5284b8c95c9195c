"""Whether the rows of a run are whole and do not contradict themselves or each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from leaderboard.rows.arrays import Array, carries, flag, real, text
from leaderboard.rows.plan import PlannedCell

SLACK = 1 + 1e-3
"""Relative, of norms in fp32."""
OF_THE_CELL = ("task", "defense", "attack", "threat_model", "constraint", "goal", "split")


def cell_faults(
    cell: PlannedCell, rows: pa.Table, run_id: str, clusters: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Sentences about the rows of one cell.

    Args:
        clusters: the examples that have to be there, and what each shares with others; None: they were made for the
            cell, and must be the same at every budget.
    """
    where = f"{cell.task}, {cell.defense}, {cell}"
    for fault in (*_strangers(cell, rows, run_id), *_gaps(cell, rows, clusters), *_contradictions(cell, rows)):
        yield f"{where}: {fault}"


def _strangers(cell: PlannedCell, rows: pa.Table, run_id: str) -> Iterator[str]:
    """Rows that say that they are of something else."""
    expected = {"run_id": run_id, "cell_key": cell.key, **{name: str(getattr(cell, name)) for name in OF_THE_CELL}}
    for name, value in expected.items():
        other = sorted(set(text(rows, name).tolist()) - {value})
        if other:
            yield f"{name} is {other[0]!r:.60} in some rows, and {value!r} in the plan"
    failed = int((text(rows, "status") == "error").sum())
    if failed:
        yield f"{failed} rows failed"


def _gaps(cell: PlannedCell, rows: pa.Table, clusters: Mapping[str, str] | None) -> Iterator[str]:
    """Rows that are missing, there twice, or nobody's."""
    examples, budgets = text(rows, "example_id"), real(rows, "budget_eps")
    there = Counter(zip(examples.tolist(), budgets.tolist(), strict=True))
    known = set(examples.tolist()) if clusters is None else set(clusters)
    asked = {(example, float(budget)) for example in known for budget in cell.budgets}
    yield from _listed("there twice", [pair for pair, count in there.items() if count > 1])
    yield from _listed("missing", asked - there.keys())
    yield from _listed("of no example or budget of the suite", there.keys() - asked)
    if clusters is not None:
        shared = set(zip(examples.tolist(), text(rows, "cluster_id").tolist(), strict=True))
        other = [example for example, cluster in shared if clusters.get(example, cluster) != cluster]
        yield from _listed("of another cluster than in the suite", [(example, "") for example in other])
    beyond = np.isin(budgets, cell.sanity_budgets)
    if (beyond != flag(rows, "sanity")).any():
        yield "rows are marked as sanity rows, or not, against the plan"


def _listed(what: str, pairs: object) -> Iterator[str]:
    found = sorted(pairs)  # pyright: ignore[reportArgumentType]
    if found:
        example, budget = found[0]
        yield f"{len(found)} rows are {what}, first {example} {'' if budget == '' else f'at {budget:g}'}".rstrip()


def _contradictions(cell: PlannedCell, rows: pa.Table) -> Iterator[str]:
    """What cannot be true together."""
    eligible, suppressed = flag(rows, "eligible"), flag(rows, "suppressed")
    recovered, outcome = flag(rows, "recovered"), text(rows, "outcome")
    ran = text(rows, "status") == "ok"
    margin, violated = real(rows, "margin_attacked"), carries(rows, "constraint-violated")
    broken = outcome == "degenerate"
    named = np.where(suppressed, np.where(recovered, "recovered", np.where(broken, "degenerate", "held")), "")
    named = np.where(eligible & ~suppressed, "never_suppressed", named)
    star = _stars(rows, recovered & ~flag(rows, "sanity"))
    wrong: dict[str, Array] = {
        "suppressed, and not eligible": suppressed & ~eligible,
        "recovered, and never suppressed": recovered & ~suppressed,
        "recovered, and nothing was attacked": recovered & ~ran,
        "called otherwise than they turned out": (named != outcome) & ~((outcome == "") & ~recovered & ~ran),
        "recovered by a margin that is not above 0": recovered & ~(margin > 0),
        "not recovered, by a margin above 0": ran & ~recovered & ~broken & ~violated & (margin > 0),
        "recovered by more than the budget": recovered & (real(rows, "delta_norm") > real(rows, "budget_abs") * SLACK),
        "of another smallest budget than their example": ran & ~_equal(real(rows, "eps_star"), star),
        "at a smallest rescaling that is larger": real(rows, "min_eps") > real(rows, "delta_eps") * SLACK,
    }
    for what, where in wrong.items():
        if where.any():
            first = int(np.argmax(where))
            example, budget = text(rows, "example_id")[first], real(rows, "budget_eps")[first]
            yield f"{int(where.sum())} rows are {what}, first {example} at {budget:g}"


def _stars(rows: pa.Table, reached: Array) -> Array:
    """(rows,): the smallest budget at which the row's example is recovered; NaN: at none."""
    examples, budgets = text(rows, "example_id"), real(rows, "budget_eps")
    names, place = np.unique(examples, return_inverse=True)
    least = np.full(len(names), np.inf)
    np.minimum.at(least, place[reached], budgets[reached])
    return np.where(np.isinf(least), np.nan, least)[place]


def _equal(a: Array, b: Array) -> Array:
    return np.isclose(a, b, rtol=1e-9, equal_nan=True)


ON_THE_MODEL = ("eligible", "label_base")
UNDER_THE_DEFENSE = ("suppressed", "label_defended")


def company_faults(cells: Sequence[tuple[PlannedCell, pa.Table]]) -> Iterator[str]:
    """Sentences about cells that say of one example, without any attack, one this and another one that."""
    known: dict[tuple[str, ...], dict[str, tuple[object, ...]]] = {}
    for cell, rows in cells:
        of_model = (cell.task, cell.split, cell.defense if cell.split == "fresh" else "")
        for columns, scope in ((ON_THE_MODEL, of_model), (UNDER_THE_DEFENSE, (*of_model[:2], cell.defense, "under"))):
            before = known.setdefault(scope, {})
            now = _said(rows, columns)
            differ = [e for e, values in now.items() if any(v != before.get(e, values) for v in [values])]
            if differ:
                yield (
                    f"{cell.task}, {cell.defense}, {cell}: {' and '.join(columns)} of {len(differ)} examples are other "
                    f"than in other cells, first {sorted(differ)[0]}"
                )
            before.update({e: values for e, values in now.items() if e not in before})


def _said(rows: pa.Table, columns: Sequence[str]) -> dict[str, tuple[object, ...]]:
    values = zip(*(rows[name].to_pylist() for name in columns), strict=True)
    return dict(zip(rows["example_id"].to_pylist(), values, strict=True))
