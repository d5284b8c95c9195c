"""The lines of a suite's table: what an entry is called, what may be filtered, and how it stands."""

from __future__ import annotations

from typing import Literal, NamedTuple

from leaderboard.board.schema import Entry, SuiteBoard
from leaderboard.scores.threats import with_role

Status = Literal["ranked", "unranked", "control", "withdrawn"]


class Row(NamedTuple):
    """An entry in a table of its suite."""

    entry: Entry
    title: str
    status: Status
    flags: list[str]
    """Codes, each once."""
    day: str | None
    """ISO 8601: handed in, or else finished."""


class Attempts(NamedTuple):
    """What one organisation has handed in to a suite."""

    organisation: str
    attempts: int
    listed: int
    """Entries of it on the board."""
    withdrawn: int
    """Of those."""


def rows(board: SuiteBoard) -> list[Row]:
    """In the order of the board; controls behind what was attacked."""
    found = [_row(entry) for entry in board.entries]
    return sorted(found, key=lambda row: row.status == "control")


def scored_threats(board: SuiteBoard) -> list[str]:
    """The threat models that can enter the score, primary ones first."""
    threats = {name: threat for entry in board.entries for name, threat in entry.threats.items()}
    return with_role(threats, "primary", "baseline")


def attempts(board: SuiteBoard) -> list[Attempts]:
    """By organisation, by name."""
    handed_in = [entry.submission for entry in board.entries if entry.submission is not None]
    names = sorted({one.organisation for one in handed_in})
    grouped = {name: [one for one in handed_in if one.organisation == name] for name in names}
    return [
        Attempts(name, max(one.attempts for one in own), len(own), sum(one.withdrawn is not None for one in own))
        for name, own in grouped.items()
    ]


def title(entry: Entry) -> str:
    """What the submitter calls the defense, or else its name."""
    return entry.submission.title if entry.submission else entry.defense.name


def was_attacked(entry: Entry) -> bool:
    return any(cell.role == "attack" for result in entry.per_task.values() for cell in result.cells)


def status(entry: Entry) -> Status:
    """A withdrawn entry is shown as such whatever else it is."""
    if entry.submission is not None and entry.submission.withdrawn is not None:
        return "withdrawn"
    return entry.verdict.status if was_attacked(entry) else "control"


def _row(entry: Entry) -> Row:
    finished = entry.provenance.finished
    day = entry.submission.submitted if entry.submission else finished and finished[:10]
    return Row(entry, title(entry), status(entry), sorted({flag.code for flag in entry.flags}), day)
