"""What every recovery wrote, by content: a run keeps it in ``private/``, and what is handed in may share it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from benchmark.errors import UsageError
from leaderboard.bundle.layout import PERTURBATIONS

PRIVATE = "private"
"""Folder of a run directory."""


def share(run: Path, made: Path, digests: Iterable[str]) -> None:
    """Copy files of perturbations from a run into what is handed in.

    Args:
        digests: their SHA-256, as rows name them; empty ones name none.

    Raises:
        UsageError: one is missing.
    """
    (made / PERTURBATIONS).mkdir()
    for digest in sorted(set(digests) - {""}):
        file = run / PRIVATE / f"{digest}.safetensors"
        if not file.is_file():
            raise UsageError(f"{file} is missing: repeat the run's command, which makes it again")
        shutil.copyfile(file, made / PERTURBATIONS / file.name)
