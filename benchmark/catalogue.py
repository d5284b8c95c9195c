"""What is registered, and what each thing says of itself, for ``bench list`` and ``bench show``.

A class tells its settings by the docstring under each field; nothing is written twice.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.registry import (
    ATTACKS,
    DEFENSES,
    JUDGES,
    PROTOCOLS,
    SOURCES,
    SUITES,
    TASKS,
    THREATS,
    Registry,
    suggestion,
)

KINDS: dict[str, Registry] = {
    "tasks": TASKS,
    "defenses": DEFENSES,
    "attacks": ATTACKS,
    "threats": THREATS,
    "judges": JUDGES,
    "suites": SUITES,
    "sources": SOURCES,
    "protocols": PROTOCOLS,
}


def listed(kind: str) -> list[dict[str, str]]:
    """Everything of a kind, a line each; what cannot be loaded is listed as broken.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")
    return [_line(KINDS[kind], name) for name in KINDS[kind].names()]


def _line(registry: Registry, name: str) -> dict[str, str]:
    try:
        thing = registry.get(name)
    except UsageError as error:
        return {"name": name, "status": "broken", "summary": str(error)}
    if isinstance(thing, Path):
        from benchmark.suite import load_suite

        return {"name": name, "status": "ok", "summary": load_suite(name).description}
    return {"name": name, "status": "ok", "summary": (thing.__doc__ or "").strip().split("\n")[0]}


def described(name: str) -> dict[str, Any]:
    """One registered thing of any kind with its settings, as JSON values.

    Raises:
        UsageError: nothing has this name.
    """
    for registry in KINDS.values():
        if name not in registry.names():
            continue
        thing, found = registry.get(name), {"kind": registry.kind, "name": name}
        if isinstance(thing, Path):
            return {**found, "where": str(thing), "about": thing.read_text(), "settings": []}
        return {**found, **describe(thing)}
    known = sorted({n for registry in KINDS.values() for n in registry.names()})
    raise UsageError(f"nothing is named {name!r}.{suggestion(name, known)} Names: {', '.join(known)}")


def describe(thing: Any) -> dict[str, Any]:
    """Where a class or function is, what it is and its settings, as JSON values."""
    module = inspect.getmodule(thing)
    texts = (thing.__doc__, module.__doc__ if module else None)
    about = "\n\n".join(dict.fromkeys(_reflowed(text) for text in texts if text))
    return {"where": f"{thing.__module__}:{thing.__qualname__}", "about": about, "settings": _settings(thing)}


def _reflowed(text: str) -> str:
    """A docstring whose paragraphs are one line each, but for those with indented lines."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(p if "\n " in p or p.startswith(" ") else " ".join(p.split("\n")) for p in paragraphs)


def _settings(thing: Any) -> list[dict[str, Any]]:
    if not isinstance(thing, type) or not dataclasses.is_dataclass(thing):
        return []
    meanings: dict[str, str] = {}
    for base in reversed(thing.__mro__):
        if dataclasses.is_dataclass(base):
            meanings |= _field_docstrings(base)
    return [
        {"name": f.name, "default": _default(f), "meaning": meanings.get(f.name, "")} for f in dataclasses.fields(thing)
    ]


def _default(field: dataclasses.Field[Any]) -> Any:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default is dataclasses.MISSING:
        return "(required)"
    return str(default) if dataclasses.is_dataclass(default) else default


def _field_docstrings(thing: type) -> dict[str, str]:
    """Field of the class's own -> the string literal that follows it in the body."""
    try:
        tree = ast.parse(inspect.cleandoc(inspect.getsource(thing)))
    except (OSError, SyntaxError):
        return {}
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    found = {}
    for field, text in zip(body, body[1:], strict=False):
        named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if named and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[field.target.id] = " ".join(str(text.value.value).split())  # type: ignore[attr-defined]
    return found
