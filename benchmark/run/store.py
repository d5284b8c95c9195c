"""A run directory: everything that a run leaves, written so that an interruption loses at most one cell.

run.json        what ran, with which versions, and how it ended
plan.json       the cells with their keys, written before the first
cells/          <key>.parquet, one atomic file a finished cell
fits/           <task>__<defense>.json, what fitting found and what the defense costs
events.jsonl    one line an event: halved packs, fallbacks, errors
private/        perturbations; mode 0700, never published
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from benchmark.errors import RunDirectoryError
from benchmark.files import write_atomically
from benchmark.run.differences import differences

CODE = b"recoverybench.code"
"""Metadata of a cell's file: which code made it, by part, as JSON."""
ERRORS = b"recoverybench.errors"
"""Metadata of a cell's file: how many of its rows failed. A cell with any is tried again."""


class Store:
    """Reads and writes one run directory, locked while it is open."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = FileLock(str(root / ".lock"))

    def open(self, plan: Mapping[str, Any]) -> Store:
        """Create the directory, or take up the run that it holds if it is of the same plan.

        Raises:
            RunDirectoryError: another plan's directory, a directory of something else, one in use, or not writable.
        """
        self._refuse_foreign(plan)
        self._guard(lambda: self._prepare(plan))
        return self

    def close(self) -> None:
        self._lock.release()

    def _refuse_foreign(self, plan: Mapping[str, Any]) -> None:
        if not self.root.exists():
            return
        if not self.root.is_dir():
            raise RunDirectoryError(f"{self.root} is a file; give another --output-dir")
        known = self.root / "plan.json"
        if not known.is_file():
            strangers = [p.name for p in self.root.iterdir() if p.name not in (".lock", "plan.json.part")]
            if strangers:
                raise RunDirectoryError(
                    f"{self.root} is not empty and holds no run (it has {', '.join(sorted(strangers)[:3])}); "
                    f"give an empty or new --output-dir"
                )
            return
        held = read_json(known)
        found = held.get("identity")
        if found != plan["identity"]:
            differ = differences(held.get("inputs"), plan["inputs"]) or ["the suite, a defense, an attack or the code"]
            raise RunDirectoryError(
                f"{self.root} holds a run of another plan ({found}, this one is {plan['identity']}). What differs: "
                f"{'; '.join(differ)}. Give another --output-dir, or repeat that run's command, with the code that it "
                "had, to resume it. Nothing was changed"
            )

    def _prepare(self, plan: Mapping[str, Any]) -> None:
        for folder in ("cells", "fits"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "private").mkdir(mode=0o700, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunDirectoryError(
                f"{self.root} is in use by another process; wait for it, or give another --output-dir"
            ) from error
        for part in self.root.glob("**/*.part"):
            part.unlink()
        if not (self.root / "plan.json").is_file():
            self.write_json("plan.json", plan)

    def has(self, key: str) -> bool:
        """The cell has been run, even if some of its rows failed."""
        return self._cell(key).is_file()

    def finished(self, key: str) -> bool:
        """The cell has been run, and none of its rows failed.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        if not self.has(key):
            return False
        with self._damaged(self._cell(key)):
            return int((pq.read_schema(self._cell(key)).metadata or {}).get(ERRORS, b"0")) == 0

    def check_code(self, key: str, code: Mapping[str, str]) -> None:
        """That a cell that is there was made by this code.

        Raises:
            RunDirectoryError: the file is of another run, or is damaged.
        """
        if not self.has(key):
            return
        with self._damaged(self._cell(key)):
            made = (pq.read_schema(self._cell(key)).metadata or {}).get(CODE)
        if made != _code(code):
            told = (made or b"it does not say which").decode(errors="replace")
            raise RunDirectoryError(
                f"{self._cell(key)} was made by other code ({told}) than this run's ({_code(code).decode()}): the "
                "directory mixes runs. Delete the file and repeat the command, or give another --output-dir"
            )

    def write(self, key: str, rows: pa.Table, code: Mapping[str, str]) -> None:
        """Save a cell, whole or not at all, with which code made it.

        Raises:
            RunDirectoryError: the disk is full or not writable; finished cells stay.
        """
        failed = str(rows["status"].to_pylist().count("error")).encode()
        marked = rows.replace_schema_metadata({**(rows.schema.metadata or {}), ERRORS: failed, CODE: _code(code)})
        self._atomic(self._cell(key), lambda part: pq.write_table(marked, part, compression="zstd"))

    def read(self, key: str) -> pa.Table:
        """The rows of a cell.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        with self._damaged(self._cell(key)):
            return pq.read_table(self._cell(key))

    @contextmanager
    def _damaged(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowInvalid, OSError) as error:
            raise RunDirectoryError(f"{path} is damaged ({error}); delete it and repeat the command") from error

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Save a JSON file atomically; NaN is refused."""
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        self._atomic(self.root / name, lambda part: part.write_text(text))

    def event(self, kind: str, **details: Any) -> None:
        """Append a line to events.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": kind, **details}, default=str)

        def append() -> None:
            with (self.root / "events.jsonl").open("a") as file:
                file.write(line + "\n")

        self._guard(append)

    def write_private(self, name: str, save: Callable[[Path], Any]) -> None:
        """Save a file under private/ atomically."""
        self._atomic(self.root / "private" / name, save)

    def _cell(self, key: str) -> Path:
        return self.root / "cells" / f"{key}.parquet"

    def _atomic(self, path: Path, save: Callable[[Path], Any]) -> None:
        self._guard(lambda: write_atomically(path, save))

    def _guard(self, work: Callable[[], Any]) -> None:
        """Turn what the file system says into what the user can do."""
        try:
            work()
        except OSError as error:
            what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
            raise RunDirectoryError(
                f"cannot write to {self.root}: {what}. Finished cells are safe; "
                f"make room and repeat the command to resume"
            ) from error


def _code(code: Mapping[str, str]) -> bytes:
    return json.dumps(dict(code), sort_keys=True).encode()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run directory.

    Raises:
        RunDirectoryError: it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RunDirectoryError(f"{path} is damaged ({error}); use another --output-dir") from error
