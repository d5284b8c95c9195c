"""The first stage: everything that can be checked without a model, of the rows and of the suite itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from leaderboard.board.entries import score_entry
from leaderboard.board.schema import Entry
from leaderboard.bundle.layout import PLAN, RUN, SCORES
from leaderboard.bundle.rows_hold import cell_faults, company_faults
from leaderboard.doubt.coverage import coverage_reasons
from leaderboard.rows.files import Rows
from leaderboard.rows.plan import Plan, PlannedCell
from leaderboard.rows.recorded import parse, strict_json
from leaderboard.rows.run import Run
from leaderboard.scores.resampling import RESAMPLES, Resampler
from leaderboard.verification.checks import Check, check
from leaderboard.verification.demanded import Demanded

OF_A_CELL = (
    "attack",
    "threat_model",
    "constraint",
    "goal",
    "role",
    "searches",
    "settings",
    "budgets",
    "sanity_budgets",
    "controls",
)
"""What a suite fixes of a cell."""


class Subject(NamedTuple):
    """A defense of a run that is verified."""

    root: Path
    run: Run
    defense: str
    header: Mapping[str, Any]
    """``run.json``, as it stands."""
    plan: Plan

    @property
    def planned(self) -> list[PlannedCell]:
        """All cells, also those on examples that were made for the run."""
        return [*self.run.planned, *(cell.plan for cell in self.run.fresh)]


def subject(root: Path, run: Run, defense: str) -> Subject:
    """What is verified of a run directory or an entry.

    Raises:
        RunDirectoryError: a file cannot be read.
    """
    return Subject(root, run, defense, strict_json(root / RUN), parse(Plan, root / PLAN))


def recomputed(one: Subject, asked: Demanded) -> Iterator[Check]:
    """The checks, one by one."""

    def said(what: str, faults: Iterator[str], looked_at: str = "") -> Check:
        return check("recomputed", what, faults, looked_at=looked_at)

    yield said("the run is whole, of committed code, and under a protocol that is ranked", run_faults(one))
    yield said("it says of its suite and constants what the suite says", _suite_faults(one, asked))
    yield said("its cells are those that the suite demands, with all their settings", _plan_faults(one, asked))
    yield said("all attacks and controls were run", coverage_reasons(one.run, one.defense))
    rows = _rows(one)
    count = sum(table.num_rows for _, table in rows)
    yield said("every row is there once, and none contradicts itself", _row_faults(one, asked, rows), f"{count} rows")
    yield said("all cells say the same of the unattacked model", company_faults(rows))


def run_faults(one: Subject) -> Iterator[str]:
    """Sentences about a run that cannot be handed in."""
    manifest = one.run.manifest
    if manifest.status != "complete":
        yield f"the run is {manifest.status}: repeat its command"
    if manifest.limit is not None:
        yield f"the run was limited to {manifest.limit:g} examples: repeat it without a limit"
    if not manifest.ranked:
        yield f"the protocol is {manifest.protocol}, whose scores do not compare: repeat it without --protocol"
    strange = sum(cell.strange for cell in one.run.cells + one.run.fresh)
    if strange:
        yield f"{strange} cells were made by other code than the rest: repeat the run in a new directory"
    git = manifest.git or {}
    if not git.get("commit"):
        yield "the code is of no commit: run it from a git checkout"
    elif git.get("dirty"):
        yield f"the code is commit {str(git['commit'])[:12]} with changes: commit them, and repeat the run"


def _suite_faults(one: Subject, asked: Demanded) -> Iterator[str]:
    yield from differences("suite", asked.suite, one.header.get("suite"))
    tasks = one.header.get("tasks", {})
    for name, task in asked.tasks.items():
        mine = {key: value for key, value in tasks.get(name, {}).items() if key != "saes"}
        yield from differences(f"tasks.{name}", task, mine)
        if one.run.manifest.model.weights_sha != asked.weights[name]:
            yield f"the constants of {name} were measured on another model than was run"
    yield from (f"tasks.{name} is no task of the suite" for name in sorted(set(tasks) - set(asked.tasks)))
    mine = {site: sources[0] for site, sources in one.plan.inputs.saes.items() if sources}
    yield from differences("the suite's SAEs, by content,", asked.saes, mine)


def _plan_faults(one: Subject, asked: Demanded) -> Iterator[str]:
    for task, demanded in asked.cells.items():
        planned = [cell for cell in one.planned if (cell.task, cell.defense) == (task, one.defense)]
        mine = [_fixed(cell.model_dump(mode="json")) for cell in planned if cell.split == "test"]
        for cell in map(_fixed, demanded):
            same = [other for other in mine if _access(other) == _access(cell)]
            if not same:
                yield f"{task}: {_called(cell)} was not run"
            elif cell not in same:
                yield from differences(f"{task}: {_called(cell)}", cell, same[0])
        made = sum(cell.split == "fresh" for cell in planned)
        if made != int(task in asked.fresh):
            yield f"{task}: {made} cells are on examples made for the run, and it has to be {int(task in asked.fresh)}"


def _fixed(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {name: cell.get(name) for name in OF_A_CELL}


def _access(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[name] for name in ("attack", "threat_model", "constraint", "goal"))


def _called(cell: Mapping[str, Any]) -> str:
    return f"{cell['attack']} ({cell['threat_model']}/{cell['constraint']}, goal {cell['goal']})"


def _rows(one: Subject) -> list[tuple[PlannedCell, Any]]:
    """The rows of every cell as they stand in the file."""
    rows = Rows(one.root)
    return [(cell, rows.cell(cell.key).rows) for cell in one.planned if rows.has(cell.key)]


def _row_faults(one: Subject, asked: Demanded, rows: Sequence[tuple[PlannedCell, Any]]) -> Iterator[str]:
    for cell, table in rows:
        clusters = asked.clusters.get(cell.task) if cell.split == "test" else None
        yield from cell_faults(cell, table, one.run.manifest.run_id, clusters)
    strangers = sorted(set(Rows(one.root).keys) - {cell.key for cell in one.planned})
    if strangers:
        yield f"rows are of {len(strangers)} cells that are not in the plan, first {strangers[0]}"


def scored(run: Run, defense: str) -> Entry:
    """What the board says of a defense by itself."""
    tasks = sorted(run.manifest.suite.tasks or run.manifest.tasks)
    return score_entry(run, defense, tasks, Resampler(0, RESAMPLES)).entry


def scores_of(run: Run, defense: str) -> dict[str, Any]:
    """The numbers of a defense that an entry claims, as JSON values: its headline, and by task what that is made of."""
    entry = scored(run, defense)
    kept = {"score", "rs0", "eligible", "suppressed", "clusters", "utility"}
    return {
        "headline": entry.headline.model_dump(mode="json"),
        "utility": entry.utility,
        "verdict": entry.verdict.model_dump(mode="json"),
        "flags": sorted({f"{flag.code} ({flag.effect}), {flag.where}" for flag in entry.flags}),
        "per_task": {
            task: {
                **result.model_dump(mode="json", include=kept),
                "areas": {name: curve.raw.aurc.model_dump(mode="json") for name, curve in result.curves.items()},
            }
            for task, result in entry.per_task.items()
        },
    }


def score_faults(one: Subject) -> Iterator[str]:
    """Sentences about numbers of ``scores.json`` that do not follow from the rows."""
    yield from differences("scores", scores_of(one.run, one.defense), strict_json(one.root / SCORES))


def differences(where: str, expected: Any, found: Any, tolerance: float = 1e-9) -> Iterator[str]:
    """Sentences about where two JSON values differ.

    Args:
        tolerance: of numbers, relative, and a tenth of it absolutely: on other hardware they differ.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}):
            if key not in found:
                yield f"{where}.{key} is missing"
            elif key not in expected:
                yield f"{where}.{key} is nobody's"
            else:
                yield from differences(f"{where}.{key}", expected[key], found[key], tolerance)
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple) and len(expected) == len(found):
        for i, pair in enumerate(zip(expected, found, strict=True)):
            yield from differences(f"{where}.{i}", *pair, tolerance)
    elif not _same(expected, found, tolerance):
        yield f"{where} is {found!r:.80}, and has to be {expected!r:.80}"


def _same(a: Any, b: Any, tolerance: float) -> bool:
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance / 10) if numbers else a == b and type(a) is type(b)
