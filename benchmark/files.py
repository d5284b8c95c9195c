"""Files that are whole or not there at all, and what they are called."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, save: Callable[[Path], Any]) -> None:
    """Let ``save`` write a file beside ``path`` and put it in its place: readers see the old one or the new one.

    Raises:
        OSError: what the file system says; nothing of the draft is left.
    """
    part = path.with_name(path.name + ".part")
    try:
        save(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


_PLAIN = re.compile(r"[a-z0-9][a-z0-9.-]*(_[a-z0-9.-]+)*")
_MOST = 100
"""Characters of a file's name, of the 255 bytes that file systems allow: endings and ``.part`` come behind."""


def file_name(*names: str) -> str:
    """What a file about things with these names is called, without its ending: other names, another file.

    Short names of small letters, digits and ``-._`` stand for themselves, with ``__`` between them. Of all others there
    is what can be read of them, and a hash: a name may have any character and length, and on some file systems ``A``
    and ``a`` are one file.
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
