"""The one reader of YAML and JSON that a user wrote: nothing in it is guessed, dropped or read as something else.

It reads what YAML 1.2 and JSON have in common, with anchors: mappings with text as keys, lists, text, numbers, true,
false and null. What one YAML reader takes for a number and another one for text (``yes``, ``010``, ``1:30``, a date)
is refused: quoted it is text. Everything it accepts is finite, and is written back as it was X.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.errors import UsageError
from benchmark.plain_json import from_json
from benchmark.plain_values import MOST_BYTES, Document, refuse_unreadable, shown
from benchmark.plain_yaml import from_yaml


def read(path: Path) -> Document:
    """A YAML file, or by its ending a JSON file.

    Raises:
        UsageError: it cannot be read, is no text, too large, or not of the plain form that this module tells.
    """
    text = _text(path)
    return Document(from_json(text, str(path)), {}) if path.suffix == ".json" else from_yaml(text, str(path))


def parse(text: str, where: str) -> Any:
    """A value that stands in one text, as YAML; ``where`` it was given.

    Raises:
        UsageError: it is empty, or not of the plain form that this module tells; or something in it is a comment.
    """
    refuse_unreadable(text, where)
    return from_yaml(text, where, whole=True).value


def faults(error: ValidationError | Sequence[Any], document: Document | None = None) -> str:
    """What is wrong with values, each with its key, what was given, and its line where there is one."""
    errors = error.errors(include_url=False) if isinstance(error, ValidationError) else error
    return "; ".join(dict.fromkeys(_fault(e, document) for e in errors))


def _fault(e: Mapping[str, Any], document: Document | None) -> str:
    line = document.line(e["loc"]) if document else None
    start = f"line {line}: " if line else ""
    key = ".".join(str(part) for part in e["loc"])
    given = "" if isinstance(e["input"], Mapping) and e["input"] else f" (got {shown(e['input'])})"
    message = _MESSAGES.get(e["type"], e["msg"].removeprefix("Value error, "))
    return f"{start}{key}: {message}{given}" if key else f"{start}{message}"


_MESSAGES = {"needs_python_object": "it can be set from Python only; leave it out"}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}; give a file that can") from error
    if len(data) > MOST_BYTES:
        raise UsageError(f"{path} is larger than {MOST_BYTES} bytes; that is data: name it as a `source`")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(f"{path} is not valid YAML or JSON: it is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{path} is not valid YAML or JSON: line {line}, byte {error.start} is not UTF-8; save it as UTF-8"
        ) from error
    refuse_unreadable(text, str(path))
    return text
