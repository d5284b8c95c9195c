"""Files that are whole or not there at all, and what they are called."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

PART = ".part"
"""What the name of a draft ends in."""
REMEDIES = {
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the disk is full: your quota is used up", "make room"),
    errno.EFBIG: ("a file would be larger than this shell allows", "raise `ulimit -f`"),
}
"""What the system says when there is no room -> in words, and what to do."""


def write_atomically(path: Path, save: Callable[[Path], Any], named: Callable[[Path], Path] | None = None) -> None:
    """Let ``save`` write a file beside ``path`` and put it in its place: readers see the old one or the new one, and a
    file that is written later is never on the disk without this one.

    Args:
        named: where the finished draft belongs; None: ``path``.

    Raises:
        OSError: what the file system says, also where ``save`` has an exception of its own for it; nothing of the draft
            is left.
    """
    part = path.with_name(path.name + PART)
    try:
        _saved(save, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path if named is None else named(part))
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_by_content(draft: Path, save: Callable[[Path], Any]) -> str:
    """Let ``save`` write a file, called by the SHA-256 of its bytes, which is given back, with the ending of ``draft``
    and in its folder.

    Raises:
        OSError: as ``write_atomically``.
    """
    found: list[str] = []

    def named(part: Path) -> Path:
        found.append(digest_of(part))
        return draft.with_name(f"{found[0]}{draft.suffix}")

    write_atomically(draft, save, named)
    return found[0]


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remedy(error: OSError) -> tuple[str, str]:
    """What a failed write means, and what to do about it."""
    return REMEDIES.get(error.errno or 0, (str(error), "see that the place exists and can be written"))


_PLAIN = re.compile(r"[a-z0-9][a-z0-9.@-]*(_[a-z0-9.@-]+)*")
_MOST = 100
"""Characters of a file's name, of the 255 bytes that file systems allow: endings and ``.part`` come behind."""


def file_name(*names: str) -> str:
    """What a file about things with these names is called, without its ending: other names, another file.

    Short names of small letters, digits and ``-._@`` stand for themselves, with ``__`` between them. Of all others
    there is what can be read of them, and a hash: a name may have any character and length, and on some file systems
    ``A`` and ``a`` are one file.
    """
    joined = "__".join(names)
    if len(joined) <= _MOST and all(_PLAIN.fullmatch(name) for name in names):
        return joined
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", joined).lstrip(".-")[:_MOST]
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]
    return f"{readable}-{digest}"


def is_file(path: Path) -> bool:
    """Whether there is a file; of a path that no file can have, no."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _saved(save: Callable[[Path], Any], part: Path) -> None:
    try:
        save(part)
    except OSError:
        raise
    except Exception as error:
        # libraries written in other languages wrap what the system says in exceptions of their own; its number is left
        told = re.search(r"(?:os error |code: |errno )(\d+)", str(error))
        if told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1]))) from error


def _sync_folder(folder: Path) -> None:
    """Make the new name last; where folders cannot be opened (Windows), the system does without."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(opened)
