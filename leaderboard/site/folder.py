"""The folder of a site: what a build may replace and remove there is what an earlier build has written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.files import PART, remedy, write_atomically

LISTING = "site.json"
"""Names every file that a build has written, itself among them."""


def replace(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Make the folder hold these files and no other; readers see each of them old or new, never a part.

    Args:
        files: by path below the folder, with slashes.

    Returns:
        The paths of all of them, sorted.

    Raises:
        UsageError: the folder holds what no build has written, or cannot be written.
    """
    try:
        return _replace(folder, files)
    except OSError as error:
        what, do = remedy(error)
        raise UsageError(f"cannot write the site to {folder}: {what}; {do} and repeat the build") from error


def _replace(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    there = _found(folder)
    own = _listed(folder)
    _refuse(folder, [name for name in there if _is_foreign(folder / name, name, own)])
    wanted = {*files, LISTING}
    # listed before they are written: a build that was cut off can be repeated
    _write(folder / LISTING, _listing(own | wanted))
    for name, content in files.items():
        _write(folder / name, content)
    for name in sorted(set(there) - wanted):
        (folder / name).unlink()
    _remove_empty(folder)
    _write(folder / LISTING, _listing(wanted))
    return [folder / name for name in sorted(wanted)]


def _found(folder: Path) -> list[str]:
    """Everything below that is no folder; a link is never followed."""
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in (*names, *links)]
    return found


def _listed(folder: Path) -> set[str]:
    """What earlier builds say that they wrote."""
    try:
        said = json.loads((folder / LISTING).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {str(name) for name in said} if isinstance(said, list) else set()


def _is_foreign(path: Path, name: str, own: set[str]) -> bool:
    """No build writes links; a draft may be left of one that was killed."""
    return path.is_symlink() or name.removesuffix(PART) not in own and name != LISTING + PART


def _refuse(folder: Path, foreign: Sequence[str]) -> None:
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise UsageError(
            f"{folder} holds {', '.join(sorted(foreign)[:3])}{more}, which no build of the site has written; "
            "give an empty folder, or one that holds a site and nothing else"
        )


def _write(path: Path, content: bytes) -> None:
    """What is there already stays as it is, with its time."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda draft: draft.write_bytes(content))


def _listing(names: set[str]) -> bytes:
    return (json.dumps({"files": sorted(names)}, indent=1) + "\n").encode()


def _remove_empty(folder: Path) -> None:
    for place, _, _ in os.walk(folder, topdown=False):
        if Path(place) != folder and not os.listdir(place):
            os.rmdir(place)
