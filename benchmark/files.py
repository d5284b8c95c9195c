"""Files that are whole or not there at all."""

from __future__ import annotations

import os
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
