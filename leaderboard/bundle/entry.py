"""``entry.json``: which run of which defense an entry is, who handed it in, and the hash of every other file."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from leaderboard.bundle.form import Form
from leaderboard.scores.values import Strict

SCHEMA_VERSION = 1


class Withdrawn(Strict):
    """Why an entry does not stand any more; it stays on the board."""

    on: date
    why: str


class SuiteName(Strict):
    """Which suite was run."""

    name: str
    version: str
    hash: str


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EntryFile(Strict):
    """``entry.json``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    suite: SuiteName
    defense: str
    spec_sha: str
    run_id: str
    submitter: Form
    submitted: date
    withdrawn: Withdrawn | None = None
    files: dict[str, Digest]
    """Of every file but this one and the certificate: its place in the entry, and its SHA-256."""


def identity(said: Strict) -> str:
    """Hash of what somebody handed in: who, what, and every file; not whether it was withdrawn."""
    content = said.model_dump(mode="json", exclude={"withdrawn"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
