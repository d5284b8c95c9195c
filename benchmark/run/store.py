"""A run directory: everything that a run leaves, written so that an interruption loses at most one cell.

run.json        what ran, with which versions, and how it ended
plan.json       the cells with their keys, written before the first
cells/          <key>.parquet, one atomic file a finished cell
fits/           <task>__<defense>.json, what fitting found and what the defense costs
stability.json  which latents the editions of a defense have in common, where a site has several SAEs
events.jsonl    one line an event: halved packs, fallbacks, errors
private/        <sha256>.safetensors, perturbations by their content, written before their cell, which names them; mode
                0700, never published
*.part          a draft; the next run deletes it
*.damaged       a file that could not be read, set aside; what it held was made again
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.contracts.row import SCHEMA_VERSION
from benchmark.errors import RunDirectoryError
from benchmark.files import digest_of, file_name, remedy, write_atomically, write_by_content
from benchmark.run.ownership import DAMAGED, drafts, read_json, refuse_foreign

CODE = b"recoverybench.code"
"""Metadata of a cell's file: which code made it, by part, as JSON."""
ERRORS = b"recoverybench.errors"
"""Metadata of a cell's file: how many of its rows failed. A cell with any is tried again."""
PERTURBATIONS = b"recoverybench.perturbations"
"""Metadata of a cell's file: SHA-256 of its perturbations' file under private/; empty: it has none. A cell without them
is run again."""
SAFE = ".safetensors"
_UNREADABLE = (pa.ArrowException, OSError, KeyError, ValueError)


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
        self._guard(lambda: self._prepare(plan))
        return self

    def close(self) -> None:
        self._lock.release()

    def _prepare(self, plan: Mapping[str, Any]) -> None:
        refuse_foreign(self.root, plan)
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunDirectoryError(
                f"{self.root} is in use by another process; wait for it, or give another --output-dir"
            ) from error
        try:
            refuse_foreign(self.root, plan)  # again: another process may have begun a run between the look and the lock
            self._lay_out(plan)
        except BaseException:
            self.close()
            raise

    def _lay_out(self, plan: Mapping[str, Any]) -> None:
        for part in drafts(self.root):
            part.unlink()
        for folder, mode in (("cells", 0o777), ("fits", 0o777), ("private", 0o700)):
            (self.root / folder).mkdir(mode=mode, exist_ok=True)
        known = self.root / "plan.json"
        if not known.is_file() or known.read_bytes() != _json(plan).encode():
            self.write_json("plan.json", plan)

    def mend(self, keys: Iterable[str]) -> list[str]:
        """Set aside what cannot be read of the cells, so that they are run again.

        Returns:
            One line for each cell that was finished and is not any more.
        """
        told = []
        for key in keys:
            if not self.has(key):
                continue
            why = _damage(self._cell(key), key)
            aside = self._cell(key)
            if why is None and (why := self._loss(key, whole=True)) is not None:
                aside = self._private(key)
            if why is not None:
                self._guard(lambda file=aside: _set_aside(file))
                told.append(f"{aside.relative_to(self.root)} {why}; its cell is run again")
        return told

    def has(self, key: str) -> bool:
        """The cell has been run, even if some of its rows failed."""
        return self._cell(key).is_file()

    def finished(self, key: str) -> bool:
        """The cell has been run, none of its rows failed, and its perturbations are there.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        if not self.has(key):
            return False
        with self._damaged(self._cell(key)):
            metadata = pq.read_schema(self._cell(key)).metadata or {}
        return int(metadata.get(ERRORS, b"0")) == 0 and self._loss(key) is None

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

    def write(
        self, key: str, rows: pa.Table, code: Mapping[str, str], perturbations: Mapping[str, Tensor] | None = None
    ) -> None:
        """Save a cell, whole or not at all: its perturbations, by example, and then its rows, with which code made it.

        Raises:
            RunDirectoryError: the disk is full or not writable; finished cells stay.
        """
        kept = self._keep(key, perturbations) if perturbations else ""
        failed = str(rows["status"].to_pylist().count("error")).encode()
        notes = {ERRORS: failed, PERTURBATIONS: kept.encode(), CODE: _code(code)}
        marked = rows.replace_schema_metadata({**(rows.schema.metadata or {}), **notes})
        self._atomic(
            self._cell(key), lambda part: pq.write_table(marked, part, compression="zstd", write_page_checksum=True)
        )

    def read(self, key: str) -> pa.Table:
        """The rows of a cell.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        with self._damaged(self._cell(key)):
            return pq.read_table(self._cell(key), page_checksum_verification=True)

    def perturbations(self, key: str) -> dict[str, Tensor]:
        """What a finished cell found, by example; nothing where nothing was attacked."""
        return load_file(self._private(key)) if self._found(key) else {}

    def _keep(self, key: str, perturbations: Mapping[str, Tensor]) -> str:
        digest: list[str] = []
        found, draft = dict(perturbations), self.root / "private" / f"{key}{SAFE}"
        self._guard(lambda: digest.append(write_by_content(draft, lambda part: save_file(found, part))))
        return digest[0]

    @contextmanager
    def _damaged(self, path: Path) -> Iterator[None]:
        try:
            yield
        except _UNREADABLE as error:
            raise RunDirectoryError(f"{path} is damaged ({error}); repeat the command, and it is run again") from error

    def _loss(self, key: str, *, whole: bool = False) -> str | None:
        """What is wrong with the perturbations of a cell; None: they are there, or it has none.

        ``whole``: every byte is looked at."""
        expected = self._found(key)
        if not expected:
            return None
        try:
            with safe_open(self._private(key), "pt"):
                return "is damaged" if whole and digest_of(self._private(key)) != expected else None
        except FileNotFoundError:
            return "is missing"
        except (OSError, SafetensorError):
            return "is damaged"

    def files_of(self, key: str) -> list[Path]:
        """The files of a finished cell: its perturbations, if it has any, and its rows."""
        return [*([self._private(key)] if self._found(key) else []), self._cell(key)]

    def has_fit(self, task: str, defense: str) -> bool:
        """What fitting found is there and can be read; otherwise the defense is fitted once more, and it is written."""
        return bool(self.fit(task, defense))

    def fit(self, task: str, defense: str) -> Mapping[str, Any]:
        """What fitting found; nothing where it is not there or cannot be read."""
        try:
            found = read_json(self.root / _fit(task, defense))
        except RunDirectoryError:
            return {}
        return found if (found.get("task"), found.get("defense")) == (task, defense) else {}

    @property
    def fits(self) -> list[Path]:
        """The files of what fitting found."""
        return sorted((self.root / "fits").glob("*.json"))

    def write_fit(self, task: str, defense: str, found: Mapping[str, Any]) -> None:
        """Save what fitting found."""
        self.write_json(_fit(task, defense), found)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Save a JSON file atomically; NaN is refused."""
        text = _json(content)
        self._atomic(self.root / name, lambda part: part.write_text(text))

    def event(self, kind: str, **details: Any) -> None:
        """Append a line to events.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": kind, **details}, default=str)

        def append() -> None:
            with (self.root / "events.jsonl").open("ab+") as file:
                if file.tell() and _last_byte(file) != b"\n":
                    file.write(b"\n")  # a line that a kill cut short stays by itself
                file.write(line.encode() + b"\n")

        self._guard(append)

    def status(self) -> str | None:
        """How the last run in this directory ended, as run.json has it; ``running``: it was killed; None: there was
        none, or the file cannot be read."""
        return self.header().get("status")

    def header(self) -> Mapping[str, Any]:
        """What run.json says; nothing where it is not there or cannot be read."""
        try:
            return read_json(self.root / "run.json")
        except RunDirectoryError:
            return {}

    def saes(self, task: str) -> list[Mapping[str, Any]]:
        """What the last run in this directory found of the SAEs that it used on a task."""
        try:
            found = read_json(self.root / "run.json")["tasks"][task]["saes"]
        except (RunDirectoryError, KeyError, TypeError):
            return []
        known = found if isinstance(found, list) else []
        return [one for one in known if isinstance(one, dict) and {"site", "source", "notes"} <= set(one)]

    def stability(self) -> list[Mapping[str, Any]]:
        """What stability.json has of pairs of editions; nothing where it is not there or cannot be read."""
        try:
            found = read_json(self.root / "stability.json").get("pairs")
        except RunDirectoryError:
            return []
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    def _cell(self, key: str) -> Path:
        return self.root / "cells" / f"{key}.parquet"

    def _private(self, key: str) -> Path:
        return self.root / "private" / f"{self._found(key)}{SAFE}"

    def _found(self, key: str) -> str:
        """SHA-256 of the perturbations of a cell that is there; empty: it has none."""
        return (pq.read_schema(self._cell(key)).metadata or {}).get(PERTURBATIONS, b"").decode()

    def _atomic(self, path: Path, save: Callable[[Path], Any]) -> None:
        self._guard(lambda: write_atomically(path, save))

    def _guard(self, work: Callable[[], Any]) -> None:
        """Turn what the file system says into what the user can do."""
        try:
            work()
        except OSError as error:
            what, do = remedy(error)
            raise RunDirectoryError(
                f"cannot write to {self.root}: {what}. Finished cells are safe; {do} and repeat the command to resume"
            ) from error


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _code(code: Mapping[str, str]) -> bytes:
    return json.dumps(dict(code), sort_keys=True).encode()


def _fit(task: str, defense: str) -> str:
    return f"fits/{file_name(task, defense)}.json"


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def _damage(cell: Path, key: str) -> str | None:
    """Why the rows of a cell cannot be used; None: they can."""
    try:
        rows = pq.read_table(cell, page_checksum_verification=True)
        rows.validate(full=True)
        version = int((rows.schema.metadata or {}).get(b"recoverybench.schema_version", b"0"))
        if version != SCHEMA_VERSION:
            return f"has row schema {version}, and this version writes {SCHEMA_VERSION}"
        return None if rows["cell_key"].unique().to_pylist() == [key] else "is of another cell"
    except _UNREADABLE:
        return "is damaged"


def _set_aside(file: Path) -> None:
    if file.exists():
        os.replace(file, file.with_name(file.name + DAMAGED))
