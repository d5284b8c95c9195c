"""Files of a run directory that are not what they should be."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

KINDS = ("plan.json", "run.json", "events.jsonl", "leaderboard.json", "fits/*.json", "cells/*.parquet", "private/*")
"""One file of each is damaged."""


def truncated(file: Path, rng: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(1, len(content))])


def empty(file: Path, rng: random.Random) -> None:
    file.write_bytes(b"")


def missing(file: Path, rng: random.Random) -> None:
    file.unlink()


def noise(file: Path, rng: random.Random) -> None:
    """Bytes that are no text in any encoding."""
    file.write_bytes(b"\xff\xfe\x00" + rng.randbytes(200))


def foreign(file: Path, rng: random.Random) -> None:
    """What another program would keep under that name."""
    file.write_text('{"shopping": ["milk", "bread"]}\n')


def listed(file: Path, rng: random.Random) -> None:
    file.write_text("[1, 2, 3]\n")


def sibling(file: Path, rng: random.Random) -> None:
    """Another file of the same kind, if there is one."""
    others = [f for f in file.parent.glob("*" + file.suffix) if f != file and f.parent.name in ("cells", "private")]
    if others:
        shutil.copyfile(rng.choice(sorted(others)), file)
    else:
        empty(file, rng)


WAYS: tuple[Callable[[Path, random.Random], None], ...] = (truncated, empty, missing, noise, foreign, listed, sibling)


PLACES = (
    "thesis.tex",
    "cells/rows.csv",
    "private/diary.txt",
    "plan.json",
    "run.json",
    "cells/0123456789abcdef.parquet",
)
"""Where somebody else's file may lie."""


def strangers(root: Path, rng: random.Random) -> Path:
    """A file of somebody else's, in a directory without a plan."""
    root.mkdir(parents=True)
    where = rng.choice(PLACES)
    (root / where).parent.mkdir(exist_ok=True)
    (root / where).write_text("years of work")
    return root / where
