"""What a pull request may change: new entries and challenges come whole, and an old entry may be withdrawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pydantic import ValidationError

from benchmark.errors import BenchError
from benchmark.plain_json import from_json
from leaderboard.bundle.entry import EntryFile
from leaderboard.bundle.layout import CERTIFICATE, ENTRY, allowed
from leaderboard.challenge.reading import FILE as CHALLENGE

ENTRIES = "leaderboard/entries"
CHALLENGES = "leaderboard/challenges"
_NAME = r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]*"
_FILE = re.compile(rf"({ENTRIES}(?:/{_NAME}){{3}}|{CHALLENGES}(?:/{_NAME}){{4}})/(.+)")
PLAIN = "100644"
"""How git has a file that is no link, no module and no program."""


class Path(NamedTuple):
    """A path that git says was changed."""

    status: str
    """A: added, M: modified, D: deleted, T: of another kind."""
    mode: str
    """As it is now."""
    name: str


class Changed(NamedTuple):
    """What is handed in."""

    new: list[str]
    """Folders of entries and challenges."""
    withdrawn: list[str]
    """Folders of entries that were there."""
    refused: list[str]
    """Sentences about what is not allowed, each with what to do."""


def changed(paths: Iterable[Path], before: Callable[[str], str], after: Callable[[str], str]) -> Changed:
    """What paths are about.

    Args:
        before: the text of a file as it was.
        after: as it is handed in.
    """
    paths = list(paths)
    new = {
        folder
        for path in paths
        for folder, inner in [_parts(path.name)]
        if (path.status, inner) == ("A", _listing(folder))
    }
    withdrawn, refused = list[str](), list[str]()
    for path in paths:
        folder, inner = _parts(path.name)
        if folder not in new and (path.status, path.mode, inner, _listing(folder)) == ("M", PLAIN, ENTRY, ENTRY):
            if _is_withdrawal(before(path.name), after(path.name)):
                withdrawn.append(folder)
            else:
                refused.append(f"{path.name!r:.200} may only be withdrawn (bench leaderboard withdraw); restore it")
        elif why := _why_not(path, folder, inner, new):
            refused.append(f"{path.name!r:.200} {why}")
    return Changed(sorted(new), sorted(withdrawn), refused)


def _listing(folder: str) -> str:
    """The file that lists the others."""
    return CHALLENGE if folder.startswith(CHALLENGES) else ENTRY


def _parts(name: str) -> tuple[str, str]:
    """The folder of an entry or a challenge, and the place in it; both empty: it is no file of either."""
    found = _FILE.fullmatch(name)
    return (found[1], found[2]) if found else ("", "")


def _why_not(path: Path, folder: str, inner: str, new: set[str]) -> str | None:
    if not folder:
        return "is no file of an entry or a challenge: hand it in by another pull request"
    if inner == CERTIFICATE:
        return "is what a maintainer writes: leave it out"
    if folder not in new:
        return f"is of one that is there, or that comes without its {_listing(folder)}: leave it as it was handed in"
    if path.status != "A" or path.mode != PLAIN:
        return "is no plain new file: hand the folder in as `bench` writes it"
    return None if inner == _listing(folder) or allowed(inner) else "is nothing that is handed in: leave it out"


def _is_withdrawal(before: str, after: str) -> bool:
    """Whether a reason is all that was added."""
    try:
        old, now = _read(before), _read(after)
    except (BenchError, ValidationError):
        return False
    return old.withdrawn is None is not now.withdrawn and now.model_copy(update={"withdrawn": None}) == old


def _read(text: str) -> EntryFile:
    said: Any = from_json(text, ENTRY)
    return EntryFile.model_validate(said)
