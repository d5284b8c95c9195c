"""An entry in a ZIP file: unpacked into a folder of its own, where nothing that it says can lead out of it."""

from __future__ import annotations

import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from benchmark.errors import UsageError
from leaderboard.bundle.layout import CERTIFICATE, ENTRY, MOST_BYTES, MOST_FILES, allowed

ENDING = ".zip"
DEEPEST = 3
"""Folders that may lie around an entry: ``<suite>__v<version>/<org>__<defense>/<spec_sha>``."""
MOST_RATIO = 200
"""Unpacked bytes for one packed: rows pack to a tenth, repeated zeros to a thousandth."""
CHUNK = 1 << 20


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """The folder of the one entry in a ZIP file, as long as it is needed.

    Raises:
        UsageError: it is no such file, has more than an entry may have, or a name leads elsewhere.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(file) as packed:
                root = _unpack(packed, Path(folder), file)
        except (
            zipfile.BadZipFile,
            OSError,
            EOFError,
            ValueError,
            zlib.error,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise UsageError(f"{file} cannot be unpacked: {error}; give a ZIP file of an entry's folder") from error
        yield root


def _unpack(packed: zipfile.ZipFile, folder: Path, file: Path) -> Path:
    members = [member for member in packed.infolist() if not member.filename.endswith("/")]
    entries = [PurePosixPath(m.filename).parent for m in members if PurePosixPath(m.filename).name == ENTRY]
    if len(entries) != 1:
        raise UsageError(f"{file} holds {len(entries)} entries; give a ZIP file of one entry's folder")
    root = entries[0]
    _refuse(members, root, file)
    for member in members:
        _write(packed, member, folder / member.filename, file)
    return folder / root


def _refuse(members: list[zipfile.ZipInfo], root: PurePosixPath, file: Path) -> None:
    """Look at what is declared, before anything is written.

    Raises:
        UsageError: with what is wrong.
    """
    size, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if len(members) > MOST_FILES or size > MOST_BYTES or size > MOST_RATIO * max(packed, CHUNK):
        raise UsageError(f"{file} would unpack to {len(members)} files of {size} bytes; give an entry's folder alone")
    if len(root.parts) > DEEPEST or any(part in ("..", "") or part.startswith(("/", "~")) for part in root.parts):
        raise UsageError(f"{file} holds its entry at {str(root)!r:.120}; pack the folder of the entry by itself")
    for member in members:
        mode = member.external_attr >> 16
        name = _below(member.filename, root)
        if name is None or (mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode)):
            raise UsageError(f"{file} holds {member.filename!r:.120}, which is no file of an entry; leave it out")
    if len({member.filename.lower() for member in members}) < len(members):
        raise UsageError(f"{file} holds two files of one name; leave one out")


def _below(name: str, root: PurePosixPath) -> str | None:
    """A name as it is in the entry; None: an entry has no such file."""
    start = "" if str(root) == "." else f"{root}/"
    inner = name.removeprefix(start)
    return inner if name.startswith(start) and (inner in (ENTRY, CERTIFICATE) or allowed(inner)) else None


def _write(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, file: Path) -> None:
    """One file, no longer than it says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with packed.open(member) as source, target.open("wb") as copy:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise UsageError(f"{file}: {member.filename!r:.120} is longer than it says; pack it anew")
            copy.write(chunk)
