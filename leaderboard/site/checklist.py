"""The reporting checklist: what a report of a defense owes its readers, and whether this one has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from leaderboard.board.schema import Entry
from leaderboard.rows.run import Run
from leaderboard.site.coverage import Met
from leaderboard.site.rows import was_attacked
from leaderboard.site.searches import Search


class Item(NamedTuple):
    """One duty."""

    what: str
    has: Literal["yes", "in part", "no"]
    found: str


class Attacked(NamedTuple):
    """A defense that was attacked, with what is told of it."""

    entry: Entry
    met: Sequence[Met]
    searches: Sequence[Search]


def checklist(run: Run, entries: Sequence[Entry], attacked: Sequence[Attacked]) -> list[Item]:
    """What is there and what is not, counted."""
    return [*_setup(run, attacked), *_controls(run, entries, attacked), *_results(run, attacked)]


def _setup(run: Run, attacked: Sequence[Attacked]) -> Iterator[Item]:
    ran = {one.threat_model for own in attacked for one in own.met if one.attacks}
    skipped = sum(bool(one.skipped) for own in attacked for one in own.met)
    known = f"{len(ran)} of {len(run.manifest.threats)} threat models run; {skipped} times one was not, with the reason"
    yield Item("Threat models run, and skipped with the reason", _whole(attacked), known)
    hashes = [task.examples_hash for task in run.manifest.tasks.values()]
    judges = {cell.task for cell in run.planned if cell.code and cell.code.get("task")}
    yield Item(
        "Revisions of suite, examples and judges",
        "yes" if all(hashes) and judges == {*run.manifest.tasks} else "in part",
        f"suite hash {run.manifest.suite.hash}; examples of {sum(map(bool, hashes))} and code of task and judge of "
        f"{len(judges)} of {len(hashes)} tasks by hash",
    )
    bare = [one for own in attacked for one in own.met if one.attacks and one.ceiling is None]
    said = "every ceiling is frozen" if not bare else f"{len(bare)} times a threat model has no ceiling"
    yield Item("Budgets and constants", _whole(attacked), said)
    searched = [search for own in attacked for search in own.searches]
    steps = "medians of steps and passes, and the share still improving; no curve of success over steps is recorded"
    yield Item("Restarts, steps and convergence", "in part" if searched else "no", steps)


def _controls(run: Run, entries: Sequence[Entry], attacked: Sequence[Attacked]) -> Iterator[Item]:
    names = [entry.defense.name for entry in entries if not was_attacked(entry)]
    undefended = run.manifest.suite.undefended
    beside = f"defenses fitted and classified beside them: {', '.join(names) or 'none'}"
    yield Item("Control defenses", "yes" if undefended in names else "in part" if names else "no", beside)
    idle = [cell.key for cell in run.planned if cell.idle]
    found = {cell.key: cell for one in entries for result in one.per_task.values() for cell in result.cells}
    back = sum(point.recovered for key in idle if key in found for point in found[key].budgets)
    ran = sum(key in found for key in idle)
    yield Item(
        "Zero budget, which must recover nothing", "yes" if ran else "no", f"{back} recovered in {ran} such controls"
    )
    kept = [one.entry.utility for one in attacked]
    yield Item("Utility", _all(value is not None for value in kept), f"of {_count(kept)} of {len(kept)} defenses")


def _results(run: Run, attacked: Sequence[Attacked]) -> Iterator[Item]:
    results = [result for one in attacked for result in one.entry.per_task.values()]
    curves = sum(len(result.curves) for result in results)
    yield Item("RS(e), and recovery against drift with tau", "yes" if curves else "no", f"{curves} curves")
    bounded = [result.rs0.interval is not None for result in results]
    yield Item("Intervals and clusters by task", _all(bounded), f"of {sum(bounded)} of {len(bounded)} tasks")
    flags = [flag for one in attacked for flag in one.entry.flags]
    yield Item("Flags with their evidence", "yes" if results else "no", f"{len(flags)} raised")
    spent = sum(one.entry.cost.forwards for one in attacked)
    yield Item("Cost", "yes" if spent else "no", f"{spent:,} forward passes")
    yield Item(
        "Changes since the suite's last version", "no", f"version {run.manifest.suite.version}; see CHANGELOG.md"
    )
    yield Item("Attacks made for this defense, by its author", "no", "a run does not say; the author has to")


def _whole(attacked: Sequence[Attacked]) -> Literal["yes", "no"]:
    return "yes" if attacked else "no"


def _all(known: Iterator[bool] | Sequence[bool]) -> Literal["yes", "in part", "no"]:
    found = list(known)
    return "yes" if found and all(found) else "in part" if any(found) else "no"


def _count(values: Sequence[object]) -> int:
    return sum(value is not None for value in values)
