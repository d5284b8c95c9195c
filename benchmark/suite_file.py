"""Suites in YAML files: each whole, or on top of another one, by name or by path, that it ``extends``.

Local paths in a file are relative to it, so that a source of the hub can always be replaced by a folder with the same
layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from benchmark.documents import faults, read
from benchmark.errors import UsageError
from benchmark.files import is_file
from benchmark.plain_values import Document, shown
from benchmark.registry import SUITES
from benchmark.sealed import refuse_while_learning
from benchmark.suite import Suite
from benchmark.suite_utility import YAML


def load_suite(named: str, given: Mapping[str, Any] | None = None) -> Suite:
    """A registered suite or a YAML file.

    Args:
        given: what takes the place of the file's own entries; of ``other_tasks``, entry by entry.

    Raises:
        UsageError: it does not exist or does not obey the schema.
    """
    refuse_while_learning(f"the suite {named!r}")
    path = suite_path(named)
    content, origins = _content(path, ())
    content |= _given(content, given or {})
    try:
        text = json.dumps(content)
        return Suite.model_validate_json(text, strict=True)  # JSON has no types that could be taken for another
    except ValidationError as error:
        raise UsageError(f"{path} is not a valid suite: {_faults(error, path, origins)}") from error
    except UsageError as error:
        raise UsageError(f"{path} is not a valid suite: {error}") from error


def _given(content: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Entries for a suite; one that says nothing of other tasks is told nothing of them."""
    others = content.get("other_tasks")
    if isinstance(others, dict):
        return {**given, "other_tasks": {**others, **given.get("other_tasks", {})}}
    return {name: value for name, value in given.items() if name != "other_tasks"}


class _Origin(NamedTuple):
    """The file that a key of a suite stands in."""

    path: Path
    document: Document


def _faults(error: ValidationError, path: Path, origins: Mapping[str, _Origin]) -> str:
    """What is wrong, by the files that say it."""
    said: dict[str, None] = {}
    for origin in dict.fromkeys(map(id, origins.values())):
        one = next(o for o in origins.values() if id(o) == origin)
        mine = [e for e in error.errors(include_url=False) if e["loc"] and origins.get(str(e["loc"][0])) is one]
        if mine:
            text = faults(mine, one.document)
            said[text if one.path == path else f"in {one.path}, {text}"] = None
    rest = [e for e in error.errors(include_url=False) if not e["loc"] or str(e["loc"][0]) not in origins]
    if rest:
        said[faults(rest)] = None
    return "; ".join(said) + f"; a suite has: {', '.join(Suite.model_fields)}"


def _content(path: Path, below: Sequence[Path]) -> tuple[dict[str, Any], dict[str, _Origin]]:
    """What a file says, on top of the suite that it ``extends``, and where each key stands; local files and folders are
    relative to their own. ``below``: the files that extend this one."""
    if path.resolve() in below:
        chain = " extends ".join(str(p) for p in (*below, path.resolve()))
        raise UsageError(f"suites extend each other in a circle: {chain}; take one `extends` out")
    document = read(path)
    content = document.value
    if not isinstance(content, dict):
        raise UsageError(
            f"{path} is not a valid suite: it is {shown(content)}, not a mapping; a suite has: "
            f"{', '.join(Suite.model_fields)}"
        )
    if isinstance(content.get("saes"), dict):
        content["saes"] = {hook: _anchor_each(source, path.parent) for hook, source in content["saes"].items()}
    if "defense" in content:
        content["defense"] = _anchor(content["defense"], path.parent)
    _anchor_sources(content, path.parent)
    _anchor_utility(content.get("utility"), path.parent)
    origin = _Origin(path, document)
    if "extends" not in content:
        return content, dict.fromkeys(content, origin)
    base, origins = _content(_extended(path, document), (*below, path.resolve()))
    del content["extends"]
    return {**base, **content}, {**origins, **dict.fromkeys(content, origin)}


def _extended(path: Path, document: Document) -> Path:
    """The file of the suite that another one extends."""
    base = document.value["extends"]
    where = f"{path}, line {document.line(('extends',))}: extends"
    if not isinstance(base, str):
        raise UsageError(f"{where}: {shown(base)} is no name; write the name or the file of one suite")
    try:
        return suite_path(str(path.parent / base) if base.endswith(YAML) else base)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def suite_path(named: str) -> Path:
    """The file of a suite, by registered name or path.

    Raises:
        UsageError: there is none.
    """
    path = Path(named) if named.endswith(YAML) else Path(SUITES.get(named))
    if not is_file(path):
        raise UsageError(
            f"there is no suite file {str(path)!r}; give the path of one, or one of {', '.join(SUITES.names())}"
        )
    return path


def _anchor_sources(value: Any, folder: Path) -> None:
    """Wherever a ``source`` (of a model, of data), a task's ``model`` or the file of a ``kind`` is a local path, it is
    the file's."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _anchor_sources(item, folder)
    for name in ("source", "model"):
        if isinstance(value, dict) and name in value:
            value[name] = _anchor(value[name], folder)
    if isinstance(value, dict) and isinstance(value.get("kind"), str) and ".py:" in value["kind"]:
        file, _, name = value["kind"].rpartition(":")
        value["kind"] = f"{_anchor(file, folder)}:{name}"


def _anchor_each(sources: Any, folder: Path) -> Any:
    """One source, or each of several."""
    return [_anchor(one, folder) for one in sources] if isinstance(sources, list) else _anchor(sources, folder)


def _anchor_utility(entries: Any, folder: Path) -> None:
    """A utility task's YAML file is relative to the suite's, whether it is there or not."""
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("task"), str) and entry["task"].endswith(YAML):
            entry["task"] = str((folder / entry["task"]).resolve())


def _anchor(source: Any, folder: Path) -> Any:
    if not isinstance(source, str) or not source.strip():
        return source
    try:
        local = (folder / source).resolve()
        return str(local) if local.exists() else source
    except (OSError, ValueError):  # no file can be called so
        return source
