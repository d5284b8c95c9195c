"""A defense of a run or of an entry, as it is named: ``DIR``, or ``DIR::DEFENSE``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmark.errors import UsageError
from leaderboard.rows.run import Run, read_run
from leaderboard.scores.worst_cases import WorstCase, worst_cases

OF = "::"
"""Between a run directory and the defense of it that is meant."""


class Side(NamedTuple):
    """A defense of a run."""

    run: Run
    defense: str

    def worst_cases(self, task: str) -> Mapping[str, WorstCase]:
        """What all attacks of each threat model did to it on a task."""
        cells = [cell for cell in self.run.cells if (cell.plan.task, cell.plan.defense) == (task, self.defense)]
        return worst_cases(self.run.manifest.tasks[task], self.run.manifest.threats, cells)


def side(where: str) -> Side:
    """``RUN_DIR``, or ``RUN_DIR::DEFENSE`` where a run has attacked several.

    Raises:
        UsageError: the run attacked no such defense, or several and none is named.
        RunDirectoryError: no run, or a damaged one.
    """
    folder, _, name = where.partition(OF)
    run = read_run(folder)
    attacked = list(dict.fromkeys(cell.defense for cell in run.planned if cell.attacks))
    if name and name not in attacked:
        raise UsageError(f"{folder} attacked no defense {name!r}; it has: {', '.join(attacked) or 'none'}")
    if not attacked:
        raise UsageError(f"{folder} attacked no defense: there is nothing to compare; give another run")
    if not name and len(attacked) > 1:
        several = ", ".join(f"{folder}{OF}{one}" for one in attacked)
        raise UsageError(f"{folder} attacked {len(attacked)} defenses; name one of them: {several}")
    return Side(run, name or attacked[0])
