"""Rows: records by the columns that a kind of task reads, each value checked and made text."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmark.errors import UsageError

Place = str | tuple[str, ...]
"""The column of the data that one of ours is, or the columns that are the parts of a list."""
Value = str | tuple[str, ...]


class Columns(NamedTuple):
    """What a kind of task reads of its data, by the names that it has for it; ``id`` and ``split`` are always read."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    lists: frozenset[str] = frozenset()
    """Columns whose values are lists: a list, one as text (JSON, or as Python or NumPy print it), or a column a part
    (``choice_0``, ``choice_1``)."""
    cluster: str = "cluster"
    """Optional: what rows share, so that they are not independent; else each row is its own cluster."""
    public: Mapping[str, tuple[str, ...]] = {}
    """What well-known files call a column, by preference."""
    marks: tuple[str, ...] = ()
    """Optional: what is said about a row, and is no part of what it says: two that differ here alone are the same."""

    @property
    def content(self) -> tuple[str, ...]:
        """What makes two rows the same."""
        return *self.required, *self.optional

    @property
    def names(self) -> tuple[str, ...]:
        return *self.content, *self.marks, self.cluster, "id", "split"


@dataclass(frozen=True)
class Row:
    """A record, complete and checked."""

    where: str
    """For messages: ``questions.csv, row 3``; the first record is row 1."""
    id: str
    """The data's own, or a hash of the content."""
    cluster: str
    content: str
    """Hash of what the task reads of it."""
    values: Mapping[str, Value]
    """Of the columns that are there."""

    def text(self, column: str) -> str:
        """The value as it stands in the data."""
        value = self.values[column]
        assert isinstance(value, str)
        return value

    def name(self, column: str) -> str:
        """The value without space around it."""
        return self.text(column).strip()

    def names(self, column: str) -> tuple[str, ...]:
        """The values of a list column, without space around them."""
        return tuple(part.strip() for part in self.values[column])

    def error(self, problem: str) -> UsageError:
        """That something in it is not as it must be."""
        return UsageError(f"{self.where}: {problem}")


def place_columns(
    source: str, columns: Columns, mapping: Mapping[str, Place], there: Sequence[str]
) -> dict[str, Place]:
    """Our columns by where they stand in data that has the columns ``there``; optional ones may be nowhere.

    Raises:
        UsageError: a column is missing, or is mapped that does not exist.
    """
    known = f"it has: {', '.join(there)}"
    for name, place in mapping.items():
        if name not in columns.names:
            raise UsageError(f"{source}: `columns` maps {name}, but this kind reads: {', '.join(columns.names)}")
        absent = [part for part in ((place,) if isinstance(place, str) else place) if part not in there]
        if absent:
            raise UsageError(f"{source} has no column {', '.join(absent)}, which `columns` maps {name} to; {known}")
    places = {name: mapping.get(name) or _by_name(name, columns, there) for name in columns.names}
    missing = [name for name in columns.required if places[name] is None]
    if missing:
        remedy = f"say which it is: columns: {{{missing[0]}: NAME}}"
        raise UsageError(f"{source} has no column {', '.join(missing)}; {known}; {remedy}")
    return {name: place for name, place in places.items() if place is not None}


def _by_name(name: str, columns: Columns, there: Sequence[str]) -> Place | None:
    known = [public for public in (name, *columns.public.get(name, ())) if public in there]
    if known:
        return known[0]
    parts = [f"{name.removesuffix('s')}_{i}" for i in range(len(there))]
    return tuple(part for part in parts if part in there) or None if name in columns.lists else None


def make_row(where: str, record: Mapping[str, Any], places: Mapping[str, Place], columns: Columns) -> Row:
    """A checked row.

    Raises:
        UsageError: a value is missing, or is neither text nor number.
    """
    values: dict[str, Value] = {}
    for name, place in places.items():
        read = _list if name in columns.lists else _text
        values[name] = read(
            f"{where}: {name}", [record.get(p) for p in place] if isinstance(place, tuple) else record.get(place)
        )
    content = json.dumps({name: values.get(name) for name in columns.content}, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    identifier = str(values.get("id", digest)).strip()
    return Row(where, identifier, str(values.get(columns.cluster, identifier)).strip(), digest, values)


def _text(what: str, value: Any) -> str:
    blank = value is None or (isinstance(value, str) and not value.strip())
    if blank or (isinstance(value, float) and math.isnan(value)):
        raise UsageError(f"{what} is empty; fill it in, or leave the row out")
    if not isinstance(value, (str, int, float)):
        raise UsageError(f"{what} is a {type(value).__name__}; write a text")
    return str(value)


_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_PRINTED = re.compile(rf"\[\s*(?:{_QUOTED.pattern})(?:(?:\s*,\s*|\s+)(?:{_QUOTED.pattern}))*\s*,?\s*\]", re.DOTALL)
"""A list as Python prints it, or with nothing but space between its parts, an array as NumPy does."""


def _parsed(what: str, text: str) -> Any:
    """A list that is written as a text: as JSON, or as public files have it that a program printed."""
    try:
        return json.loads(text)
    except ValueError as error:
        if _PRINTED.fullmatch(text.strip()):
            return [ast.literal_eval(part) for part in _QUOTED.findall(text)]
        raise UsageError(
            f'{what} is {text!r}, no JSON list such as ["a", "b"]; or map it to several columns'
        ) from error


def _list(what: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = _parsed(what, _text(what, value))
    if not isinstance(value, (list, tuple)):
        _text(what, value)
        raise UsageError(f"{what} is {value!r}; expected a list")
    if not value:
        raise UsageError(f"{what} is empty; fill it in, or leave the row out")
    return tuple(_text(f"{what}[{i}]", part) for i, part in enumerate(value))
