"""A copy of a model's folder, whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.files import remedy
from benchmark.model.identity import files_of


def check_free(target: Path) -> None:
    """That a folder can be made there.

    Raises:
        UsageError: there is something already, or nothing that it could stand in.
    """
    if target.exists():
        raise UsageError(f"{target} exists; give a folder that does not, or remove that one")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {target.absolute().parent} to put {target.name} into; make it first")


def copy_model(folder: Path, target: Path) -> Path:
    """Copy the files that a model is read from, and nothing else; gives ``target``.

    Raises:
        UsageError: ``target`` exists, or cannot be written.
    """
    check_free(target)
    try:
        with tempfile.TemporaryDirectory(prefix=".draft-", dir=target.absolute().parent) as draft:
            whole = Path(draft) / "model"
            whole.mkdir()
            for file in files_of(folder):
                shutil.copyfile(file, whole / file.name)  # what links point at: the hub's cache is made of them
            os.rename(whole, target)
    except OSError as error:
        told, do = remedy(error)
        raise UsageError(f"{target} cannot be written: {told}; {do}, or give another folder") from error
    return target
