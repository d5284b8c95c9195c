"""A publication in a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.files import PART, remedy, write_atomically
from leaderboard.publication.card import CARD, MARK
from leaderboard.publication.changes import Change, changes, identity, refuse_foreign
from leaderboard.publication.publication import Content, Publication


def write(made: Publication, folder: Path) -> Sequence[Change]:
    """Lay a publication out, over an earlier one; readers see each file old or new, never a part.

    Returns:
        What was changed.

    Raises:
        UsageError: the folder holds anything else, or cannot be written.
    """
    try:
        there = _there(folder)
        found = changes(made.files, there)
        for change in found:
            _apply(change, folder / change.place, made)
        return found
    except OSError as error:
        what, do = remedy(error)
        raise UsageError(f"cannot publish to {folder}: {what}; {do} and repeat the command") from error


def _there(folder: Path) -> dict[str, str]:
    """Every file below, drafts that were cut off removed; a link is foreign and never followed."""
    found: dict[str, str] = {}
    for where, folders, names in os.walk(folder):
        for path in (Path(where) / name for name in (*names, *folders)):
            place = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found[f"{place}, a link"] = ""
            elif path.is_file():
                found[place] = ""
    if found and not _is_ours(folder / CARD):
        found[f"no {CARD} of a publication, but {min(found)}"] = ""
    refuse_foreign(str(folder), {place.removesuffix(PART): "" for place in found})
    return {place: identity(folder / place) for place in found if not place.endswith(PART)}


def _is_ours(card: Path) -> bool:
    return card.is_file() and card.read_bytes().startswith(MARK.encode())


def _apply(change: Change, path: Path, made: Publication) -> None:
    if change.kind == "deleted":
        path.unlink()
        return
    content: Content = made.files[change.place]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda draft: _save(content, draft))


def _save(content: Content, draft: Path) -> None:
    if isinstance(content, bytes):
        draft.write_bytes(content)
    else:
        shutil.copyfile(content, draft)
