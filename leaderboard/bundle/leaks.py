"""What must not be published: places of a machine, secrets, and text."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from leaderboard.rows.files import load
from leaderboard.rows.recorded import strict_json

SECRETS = {
    "a Hugging Face token": r"hf_[A-Za-z0-9]{20,}",
    "a GitHub token": r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}",
    "a GitLab token": r"glpat-[A-Za-z0-9_-]{20,}",
    "a key of OpenAI or Anthropic": r"sk-[A-Za-z0-9_-]{20,}",
    "a key of AWS": r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    "a key of Google": r"AIza[0-9A-Za-z_-]{35}",
    "a Slack token": r"xox[abeoprs]-[0-9A-Za-z-]{10,}",
    "a Weights & Biases key": r"wandb_v1_[A-Za-z0-9_]{20,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a signed token": r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "a password in an address": r"[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s:@]+@",
}
_PATHS = re.compile(
    r"(?<![\w.:/-])/(?:[\w.@+-]+/)+[\w.@+-]*"  # /home/ada/sae; not the path of an address, nor a share like 1/2
    r"|(?<![\w/])~[\w-]*/\S*|(?<![A-Za-z])[A-Za-z]:[\\/]\S+|\\\\[\w.-]+\\\S+|file:/\S*"
)
LONGEST_TEXT = 300
"""Characters of a text in a record; a longer one is a document."""
LONGEST_NAME = 120
"""Characters of an id or a label in a row."""
MOST_WORDS = 4
"""Of a label."""
IDS = ("run_id", "cell_key", "example_id", "cluster_id")
NAMES = ("task", "defense", "attack", "threat_model", "constraint", "goal", "split", "outcome", "status", "found_by")
LABELS = ("label_base", "label_defended", "label_attacked")


def leaks(root: Path) -> Iterator[str]:
    """Sentences about what must not be published in an entry, each with its place and what to do.

    Of code only secrets and places of a machine are looked for: a file of Python is text.
    """
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        where = file.relative_to(root).as_posix()
        if file.suffix == ".json":
            yield from in_json(where, strict_json(file))
        elif file.suffix == ".py":
            yield from in_text(where, file.read_text("utf-8", errors="replace"))
        elif file.suffix == ".parquet":
            yield from in_rows(where, load(file)[0])


def in_json(where: str, value: Any, *, texts: bool = True) -> Iterator[str]:
    """Sentences about what is in JSON values that must not be published, each with its place.

    Args:
        texts: also refuse what is long enough to be a document.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from in_text(f"{where}: the key", str(key))
            yield from in_json(f"{where}.{key}"[:LONGEST_TEXT], inner, texts=texts)
    elif isinstance(value, list):
        for inner in value:
            yield from in_json(where, inner, texts=texts)
    elif isinstance(value, str):
        yield from in_text(where, value)
        if texts and len(value) > LONGEST_TEXT:
            yield f"{where} has a text of {len(value)} characters ({value[:40]!r}...): entries hold numbers and names"


def in_text(where: str, text: str) -> Iterator[str]:
    """The same of one text; a secret is not repeated."""
    for what, pattern in _secrets().items():
        if pattern.search(text):
            yield f"{where} has {what}: take it out, and revoke it"
    found = _PATHS.search(text)
    if found is not None:
        yield f"{where} has a place of this machine, {found[0][:80]!r}"
    for what, name in _machine().items():
        if re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", text):
            yield f"{where} has {what}, {name!r}"


def in_rows(where: str, rows: pa.Table) -> Iterator[str]:
    """The same of rows: ids are plain, labels are short, and nothing is a sentence but why a row was not run."""
    for column in rows.column_names:
        if not pa.types.is_string(rows.schema.field(column).type):
            continue
        for value in rows[column].unique().drop_null().to_pylist():
            place = f"{where}: {column}"
            yield from in_json(place, value)
            if _is_text(column, value):
                yield f"{place} has {value[:60]!r}, which is a text: rows hold ids, labels and numbers"


def _is_text(column: str, value: str) -> bool:
    if column in IDS:
        return re.fullmatch(rf"[\x21-\x7e]{{1,{LONGEST_NAME}}}", value) is None
    most = MOST_WORDS if column in LABELS else 8
    return column in (*NAMES, *LABELS) and (len(value) > LONGEST_NAME or len(value.split()) > most)


@cache
def _secrets() -> dict[str, re.Pattern[str]]:
    return {what: re.compile(rf"(?<![A-Za-z0-9]){pattern}") for what, pattern in SECRETS.items()}


@cache
def _machine() -> dict[str, str]:
    """What names this machine and who works on it, where that is no word of everybody's."""
    found = {"the name of this machine": socket.gethostname(), "the name of this user": _user()}
    found["the user's folder"] = str(Path.home())
    common = {"root", "user", "users", "admin", "runner", "ubuntu", "localhost", "home", "none", "test"}
    return {what: name for what, name in found.items() if len(name) > 3 and name.lower() not in common}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
