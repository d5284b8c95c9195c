"""All flags of one task under one defense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from leaderboard.doubt.cell_flags import cell_findings
from leaderboard.doubt.fit_flags import fit_findings
from leaderboard.doubt.flags import Finding, Flag, located
from leaderboard.doubt.fresh_split import fresh_findings
from leaderboard.doubt.weaker_attacks import comparison_findings
from leaderboard.rows.fits import Fit
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.outcomes import Outcomes, outcomes

FEWEST_CLUSTERS = 30
WHOLE = ""
"""The key of flags that are about the task as a whole."""


def task_flags(
    cells: Sequence[MeasuredCell], fit: Fit | None, fresh: Sequence[MeasuredCell] = ()
) -> dict[str, list[Flag]]:
    """Flags by the key of the cell that they are about (at least one cell), or ``WHOLE``."""
    compared = comparison_findings(cells)
    flags = {cell.plan.key: [_of_cell(cell, finding) for finding in _findings(cell, compared)] for cell in cells}
    everything = outcomes(pa.concat_tables([cell.rows for cell in cells]))
    whole = [*few_clusters(everything), *(fit_findings(fit) if fit else ()), *fresh_findings(cells, fresh)]
    return flags | {WHOLE: [located(finding, cells[0].plan.task, scored=True) for finding in whole]}


def _findings(cell: MeasuredCell, compared: Sequence[tuple[object, Finding]]) -> Iterator[Finding]:
    yield from (finding for plan, finding in compared if plan == cell.plan)
    yield from cell_findings(cell)


def _of_cell(cell: MeasuredCell, finding: Finding) -> Flag:
    return located(finding, f"{cell.plan.task}: {cell.plan}", scored=cell.scored)


def few_clusters(worst: Outcomes) -> Iterator[Finding]:
    """Fewer than 30 clusters of eligible, or (where there are any) of suppressed examples."""
    eligible = len(np.unique(worst.clusters))
    suppressed = len(np.unique(worst.clusters[worst.suppressed]))
    fewest = min(eligible, suppressed or eligible)
    if fewest < FEWEST_CLUSTERS:
        yield Finding("few-clusters", fewest, f"only {fewest} clusters: read the intervals, not the numbers")
