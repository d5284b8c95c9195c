"""The one reader of YAML and JSON that a user wrote: nothing in it is guessed, dropped or read as something else.

It reads what YAML 1.2 and JSON have in common, with anchors: mappings with text as keys, lists, text, numbers, true,
false and null. What one YAML reader takes for a number and another one for text (``yes``, ``010``, ``1:30``, a date)
is refused: quoted it is text. Everything it accepts is finite, and is written back as it was read by ``written``.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from pydantic import ValidationError

from benchmark.errors import UsageError

MOST_BYTES = 262_144
"""Of a file; the largest suite that ships has some 10,000."""
MOST_EXPANDED = 300_000
"""Characters and parts of a document once every alias is written out."""
MOST_NESTED = 40
"""Lists and mappings within each other."""
MOST_DIGITS = 40
"""Of a number."""
UNREADABLE = {"\0": "a NUL byte", "\ufeff": "a byte-order mark within the text"}
"""Characters that are never text."""
SHOWN = 60
"""Characters of a value that a message shows."""

Place = tuple[str | int, ...]
"""Keys and indices from the top of a document to a value."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|0|[1-9][0-9]*)([eE][-+]?[0-9]+)?")
_DOUBTFUL = {
    "true or false": re.compile(r"yes|no|on|off", re.IGNORECASE),
    "a number that is not finite": re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE),
    "a number in another base": re.compile(r"[-+]?(0[0-9_]+|0[xob][0-9a-fA-F_]+)"),
    "a number with grouped digits": re.compile(r"[-+]?[0-9.][0-9_.]*_[0-9_.]*([eE][-+]?[0-9_]+)?"),
    "hours and minutes": re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
    "a date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"),
    "a key that merges mappings": re.compile(r"<<|="),
}
_JSON = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\],:\n]|-?Infinity|NaN')


class Document(NamedTuple):
    """What a file says."""

    value: Any
    lines: Mapping[Place, int]
    """Line of every value, from 1; of JSON none are known."""

    def line(self, place: Place) -> int | None:
        """Line of a value, or of what is around it."""
        known = (self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines)
        return next(known, None)


def read(path: Path) -> Document:
    """A YAML file, or by its ending a JSON file.

    Raises:
        UsageError: it cannot be read, is no text, too large, or not of the plain form that this module tells.
    """
    text = _text(path)
    return Document(_json(text, str(path)), {}) if path.suffix == ".json" else _yaml(text, str(path))


def parse(text: str, where: str) -> Any:
    """A value that stands in one text, as YAML; ``where`` it was given.

    Raises:
        UsageError: it is empty, or not of the plain form that this module tells; or something in it is a comment.
    """
    _refuse_unreadable(text, where)
    return _yaml(text, where, whole=True).value


def written(value: Any) -> str:
    """The value as YAML, which is read back as the same."""
    return yaml.dump(value, Dumper=_Writer, sort_keys=False, width=120, allow_unicode=True)


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


def shown(value: Any) -> str:
    """A value as a message shows it, cut short."""
    try:
        text = repr(value)
    except Exception as error:  # anybody's object
        text = f"{type(value).__name__} ({type(error).__name__} when shown)"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


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
    _refuse_unreadable(text, str(path))
    return text


def _refuse_unreadable(text: str, where: str) -> None:
    """Text that no file and no terminal could hold."""
    for at, character in enumerate(text):
        if character in UNREADABLE or "\ud800" <= character <= "\udfff":
            what = UNREADABLE.get(character, "a character that is not UTF-8")
            raise UsageError(f"{where}: line {text.count(chr(10), 0, at) + 1} has {what}; take it out")
    if len(text) > MOST_BYTES:
        raise UsageError(f"{where} is longer than {MOST_BYTES} characters; write less")


# --- YAML


@dataclass
class _Open:
    """A list or mapping of which the end has not come yet."""

    value: Any
    line: int
    anchor: str | None
    key: str | None = None
    """Of a mapping: the key that waits for its value, and its line."""
    key_line: int = 0
    size: int = 1
    height: int = 1
    flow: bool = False
    """Written with brackets or braces."""


class _Part(NamedTuple):
    """A whole value, with what it counts."""

    value: Any
    size: int = 1
    height: int = 0


@dataclass
class _Reading:
    """The state of reading one document."""

    where: str
    open: list[_Open] = field(default_factory=list)
    anchors: dict[str, _Part] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    found: list[Any] = field(default_factory=list)
    end: int = 0
    """Index behind the last value."""
    quoted: list[tuple[int, int]] = field(default_factory=list)
    """First and last index of every text in quotes or in a block."""

    def refuse(self, line: int, problem: str) -> NoReturn:
        key = ".".join(str(part) for part in self.place())
        raise UsageError(f"{self.where} is not valid YAML or JSON: line {line}{key and f', key {key}'}: {problem}")

    def place(self) -> Place:
        """Where the next value goes."""
        keys = (len(o.value) if isinstance(o.value, list) else o.key for o in self.open)
        return tuple(key for key in keys if key is not None)

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if getattr(event, "tag", None) is not None:
            self.refuse(line, f"the tag {shown(event.tag)} is not read; write a plain value")
        if isinstance(event, yaml.AliasEvent):
            self.end = event.end_mark.index
            self.add(self.alias(event.anchor, line), line)
        elif isinstance(event, yaml.ScalarEvent):
            self.end = event.end_mark.index
            if event.style:
                self.quoted.append((event.start_mark.index, self.end))
            value = self.scalar(event, line)
            part = _Part(value, 1 + len(event.value))
            self.anchor(event.anchor, part)
            self.add(part, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            empty: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self.start(_Open(empty, line, event.anchor, flow=bool(event.flow_style)))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.end = event.end_mark.index
            self.close()
        elif isinstance(event, yaml.DocumentStartEvent) and self.found:
            self.refuse(line, "a second document begins; write one (leave out `---`)")

    def start(self, opened: _Open) -> None:
        if len(self.open) >= MOST_NESTED:
            self.refuse(opened.line, f"lists and mappings are nested more than {MOST_NESTED} deep; write them flatter")
        if self._awaits_key():
            self.refuse(opened.line, "a key is a list or mapping; write text")
        self.open.append(opened)

    def close(self) -> None:
        done = self.open.pop()
        part = _Part(done.value, done.size, done.height)
        self.anchor(done.anchor, part)
        self.add(part, done.line)

    def anchor(self, name: str | None, part: _Part) -> None:
        if name is not None:
            self.anchors[name] = part

    def alias(self, name: str, line: int) -> _Part:
        if any(o.anchor == name for o in self.open):
            self.refuse(line, f"*{name} stands within &{name}, that is, within itself; write out what is meant")
        if name not in self.anchors:
            known = ", ".join(f"&{n}" for n in self.anchors) or "none"
            self.refuse(line, f"*{name} is used before &{name} is set; anchors so far: {known}")
        part = self.anchors[name]
        if sum(o.size for o in self.open) + part.size > MOST_EXPANDED:
            self.refuse(line, f"aliases expand to more than {MOST_EXPANDED} characters; write less")
        if len(self.open) + part.height > MOST_NESTED:
            self.refuse(line, f"lists and mappings are nested more than {MOST_NESTED} deep; write them flatter")
        return part._replace(value=copy.deepcopy(part.value))

    def scalar(self, event: Any, line: int) -> Any:
        text: str = event.value
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
            self.refuse(line, f"{shown(text)} has a character that no file can hold; take it out")
        if event.implicit[0] and "?" in text and any(o.flow for o in self.open):
            self.refuse(line, f"{shown(text)} has a question mark within brackets, not every reader's text; quote it")
        try:
            return _plain(text) if event.implicit[0] else text
        except ValueError as error:
            self.refuse(line, str(error))

    def add(self, part: _Part, line: int) -> None:
        if not self.open:
            self.found.append(part.value)
            return
        around = self.open[-1]
        around.size += part.size
        around.height = max(around.height, part.height + 1)
        if isinstance(around.value, list):
            self.lines[self.place()] = line
            around.value.append(part.value)
        elif around.key is None:
            self._take_key(around, part.value, line)
        else:
            self.lines[self.place()] = around.key_line
            around.value[around.key], around.key = part.value, None

    def _take_key(self, around: _Open, key: Any, line: int) -> None:
        if not isinstance(key, str):
            self.refuse(line, f"the key {shown(key)} is no text; keys are text: quote it, or name a setting")
        if key in around.value:
            first = self.lines[(*self.place(), key)]
            self.refuse(line, f"the key {shown(key)} is there twice, first in line {first}; leave one out")
        around.key, around.key_line = key, line

    def _awaits_key(self) -> bool:
        return bool(self.open) and isinstance(self.open[-1].value, dict) and self.open[-1].key is None


def _yaml(text: str, where: str, *, whole: bool = False) -> Document:
    """``whole``: nothing behind the value is a comment."""
    reading = _Reading(where)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            reading.take(event)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is not valid YAML or JSON: {_problem(error)}") from error
    if not reading.found or reading.found == [None] and not text.strip():
        raise UsageError(f"{where} is not valid YAML or JSON: it is empty; write a value, or null")
    _refuse_tabs(reading, text)
    if whole and text[reading.end :].strip():
        raise UsageError(f"{where}: {shown(text[reading.end :].strip())} would be left out; quote the whole value")
    return Document(reading.found[0], reading.lines)


def _refuse_tabs(reading: _Reading, text: str) -> None:
    """Not every reader takes tabs for space."""
    for found in re.finditer("\t", text):
        if not any(start <= found.start() < end for start, end in reading.quoted):
            reading.refuse(text.count("\n", 0, found.start()) + 1, "has a tab; write spaces, or quote the text")


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{place}{said}; close every bracket and quote, and indent with spaces"


def _plain(text: str) -> Any:
    """What an unquoted scalar is.

    Raises:
        ValueError: readers of YAML do not agree, or it is a number out of bounds.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    for what, pattern in _DOUBTFUL.items():
        if pattern.fullmatch(text):
            raise ValueError(
                f"{shown(text)[1:-1]} is {what} to some readers of YAML; write a plain decimal number, true or false, "
                "or quote it if it is text"
            )
    return _number(text) if _FLOAT.fullmatch(text) else text


def _number(text: str) -> int | float:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"the number {shown(text)[1:-1]} has more than {MOST_DIGITS} digits; quote it if it is text")
    if _INT.fullmatch(text):
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number; write a smaller one, or quote it if it is text")
    return value


class _Writer(yaml.SafeDumper):
    """Quotes what the reader here would not take for text, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(writer: yaml.SafeDumper, text: str) -> Any:
    try:
        plain = isinstance(_plain(text), str)
    except ValueError:
        plain = False
    if plain and text.isprintable():
        return writer.represent_scalar("tag:yaml.org,2002:str", text)
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_Writer.add_representer(str, _write_text)


# --- JSON


def _json(text: str, where: str) -> Any:
    _check_json(text, where)
    try:
        return json.loads(text, parse_float=_number, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not valid YAML or JSON: {error or 'it is empty'}; write plain JSON") from error


def _check_json(text: str, where: str) -> None:
    """Whether no key is there twice, nothing is nested too deep, and every number is one; of valid JSON."""
    line, keys, last = 1, [], ""

    def refuse(problem: str) -> NoReturn:
        raise UsageError(f"{where} is not valid YAML or JSON: line {line}: {problem}")

    for token in _JSON.findall(text):
        if token == "\n":
            line += 1
            continue
        if token in ("NaN", "Infinity", "-Infinity"):
            refuse(f"{token} is no finite number; write a number or null")
        if token in "{[":
            keys.append({})
            if len(keys) > MOST_NESTED:
                refuse(f"lists and mappings are nested more than {MOST_NESTED} deep; write them flatter")
        elif token in "}]" and keys:
            keys.pop()
        elif token == ":" and keys and last.startswith('"'):
            key = _unquoted(last)
            if key in keys[-1]:
                refuse(f"the key {shown(key)} is there twice, first in line {keys[-1][key]}; leave one out")
            keys[-1][key] = line
        elif token.startswith('"') and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in _unquoted(token)):
            refuse(f"{token[:SHOWN]} has a character that no file can hold; take it out")
        last = token


def _unquoted(token: str) -> str:
    try:
        return json.loads(token)
    except ValueError:
        return token
