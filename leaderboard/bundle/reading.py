"""Reading what somebody handed in: nothing of it is run, nothing outside of it is read, and nothing is too large."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pydantic import ValidationError

from benchmark.errors import BenchError, RunDirectoryError, UsageError
from benchmark.files import digest_of
from benchmark.registry import is_reference
from leaderboard.bundle.entry import EntryFile
from leaderboard.bundle.layout import CERTIFICATE, ENTRY, MOST_BYTES, MOST_FILES, REQUIRED, SPEC, allowed
from leaderboard.rows.recorded import strict_json
from leaderboard.rows.run import Run, read_run


class Bundle(NamedTuple):
    """An entry."""

    root: Path
    entry: EntryFile
    run: Run


def is_entry(folder: Path) -> bool:
    """Whether a folder says that it is an entry."""
    return (folder / ENTRY).is_file()


def read_bundle(root: Path) -> Bundle:
    """An entry whose files are those that it says.

    Raises:
        UsageError: it is no entry, or a file is not what it says; all of them are told.
        RunDirectoryError: a file cannot be read.
    """
    entry = read_entry(root)
    wrong = list(strangers(root)) or list(changed(root, entry.files)) or list(spec_faults(root))
    if wrong:
        raise UsageError(f"{root} is not as it was handed in: {'; '.join(wrong)}; restore it, or hand the run in again")
    return Bundle(root, entry, read_run(root))


def read_entry(root: Path) -> EntryFile:
    """``entry.json`` of a folder.

    Raises:
        UsageError: there is none.
        RunDirectoryError: it cannot be read, or says something else.
    """
    file = root / ENTRY
    if not file.is_file():
        raise UsageError(f"{root} is no entry: it has no {ENTRY}; give a folder that `bench submit` wrote")
    try:
        return EntryFile.model_validate(strict_json(file))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RunDirectoryError(f"{file} is damaged: {place}: {first['msg']}; hand the run in again") from error
    except OSError as error:
        raise RunDirectoryError(f"{file} cannot be read: {error.strerror}; give an entry that can") from error


def needs_code(root: Path) -> bool:
    """Whether what makes the defense is a Python file, as its spec has it: whoever hands it in is not asked.

    Raises:
        RunDirectoryError: the spec cannot be read.
    """
    return is_reference(str(_spec(root).get("defense")))


def spec_faults(root: Path) -> Iterator[str]:
    """Sentences about what a spec names that is not of its entry: a file beside it, or an SAE of somebody's folder."""
    spec = _spec(root)
    what = str(spec.get("defense"))
    if is_reference(what) and not allowed(what.rpartition(":")[0]):
        yield f"{SPEC} names the code {what!r:.120}, which is no file of an entry"
    for source in _saes(spec):
        way = PurePosixPath(source.replace("\\", "/"))
        if way.is_absolute() or ".." in way.parts or source.startswith("~"):
            yield f"{SPEC} names the SAE {source!r:.120}, which is no folder of an entry"


def _spec(root: Path) -> dict[str, Any]:
    try:
        found = strict_json(root / SPEC)
    except OSError as error:
        raise RunDirectoryError(f"{root / SPEC} cannot be read: {error.strerror}; hand the run in again") from error
    return found if isinstance(found, dict) else {}


def _saes(value: Any) -> Iterator[str]:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _saes(inner)
    if isinstance(value, dict) and isinstance(value.get("sae"), str):
        yield value["sae"]


def strangers(root: Path, listing: str = ENTRY) -> Iterator[str]:
    """Sentences about what nobody may hand in: links, other files, too many of them, or too much.

    Args:
        listing: the file that lists the others.
    """
    count, size = 0, 0
    for place, is_link, length in _below(root):
        count, size = count + 1, size + length
        if count > MOST_FILES:
            yield f"it has more than {MOST_FILES} files"
            return
        if is_link:
            yield f"{place} is a link or no plain file"
        elif place not in (listing, CERTIFICATE) and not allowed(place):
            yield f"{place!r:.120} is no file that is handed in"
    if size > MOST_BYTES:
        yield f"it has {size} bytes, more than {MOST_BYTES}"


def changed(
    root: Path, listed: Mapping[str, str], required: Sequence[str] = REQUIRED, listing: str = ENTRY
) -> Iterator[str]:
    """Sentences about files that are not those that were handed in.

    Args:
        listed: SHA-256 of each, by its place.
        required: places that have to be there.
        listing: the file that lists the others.
    """
    there = {place for place, is_link, _ in _below(root) if not is_link} - {listing, CERTIFICATE}
    yield from (f"{name!r:.120} is listed, and no file that is handed in" for name in listed if not allowed(name))
    yield from (f"{name} is missing" for name in sorted({*listed, *required} - there) if allowed(name))
    yield from (f"{name} is not listed" for name in sorted(there - {*listed}))
    for name in sorted(there & {*listed}):
        if digest_of(root / name) != listed[name]:
            yield f"{name} was changed: it has another hash"


def digests(root: Path, listing: str = ENTRY) -> dict[str, str]:
    """The SHA-256 of every file but the one that lists them and the certificate, by its place."""
    there = sorted(place for place, _, _ in _below(root) if place not in (listing, CERTIFICATE))
    return {place: digest_of(root / place) for place in there}


def found_below(root: Path) -> list[Path]:
    """The folders of entries below a folder, in order.

    Raises:
        UsageError: there is no such folder.
    """
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}; give the one that `bench submit` writes entries into")
    return sorted(file.parent for file in root.rglob(ENTRY) if file.is_file() and not file.is_symlink())


def readable(root: Path) -> tuple[Bundle | None, str | None]:
    """An entry, or why it cannot be read."""
    try:
        return read_bundle(root), None
    except BenchError as error:
        return None, str(error)


def _below(root: Path) -> Iterator[tuple[str, bool, int]]:
    """Every file below a folder: its place, whether it is a link or a special file, and its bytes."""
    for folder, folders, files in os.walk(root, followlinks=False):
        for name in (*files, *(f for f in folders if (Path(folder) / f).is_symlink())):
            path = Path(folder) / name
            status = path.lstat()
            odd = not path.is_file() or path.is_symlink()
            yield path.relative_to(root).as_posix(), odd, 0 if odd else status.st_size
