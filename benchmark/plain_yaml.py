"""YAML that every reader reads alike, with anchors; written back as it was read."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import yaml

from benchmark.errors import UsageError
from benchmark.plain_values import MOST_NESTED, Document, Place, plain, shown

MOST_EXPANDED = 300_000
"""Characters and parts of a document once every alias is written out."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def from_yaml(text: str, where: str, *, whole: bool = False) -> Document:
    """What a text says.

    Args:
        whole: nothing behind the value is a comment.

    Raises:
        UsageError: it is empty, no YAML, or not of the plain form.
    """
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


def written(value: Any) -> str:
    """The value as YAML, which is read back as the same."""
    return yaml.dump(value, Dumper=_Writer, sort_keys=False, width=120, allow_unicode=True)


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
            return plain(text) if event.implicit[0] else text
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


class _Writer(yaml.SafeDumper):
    """Quotes what the reader here would not take for text, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(writer: yaml.SafeDumper, text: str) -> Any:
    try:
        is_text = isinstance(plain(text), str)
    except ValueError:
        is_text = False
    if is_text and text.isprintable():
        return writer.represent_scalar("tag:yaml.org,2002:str", text)
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_Writer.add_representer(str, _write_text)
