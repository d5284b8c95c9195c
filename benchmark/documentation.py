"""What a registered class says about itself: its docstring, and its settings with the docstring under each field.

Tables for people are made from these, so that nothing is written twice.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from typing import Any


def describe_class(thing: type) -> dict[str, Any]:
    """Where a class is, what it is and its settings, as JSON values."""
    module = inspect.getmodule(thing)
    texts = (thing.__doc__, module.__doc__ if module else None)
    about = "\n\n".join(dict.fromkeys(_reflowed(text) for text in texts if text))
    return {"where": f"{thing.__module__}:{thing.__qualname__}", "about": about, "settings": _settings(thing)}


def _reflowed(text: str) -> str:
    """A docstring whose paragraphs are one line each, but for those with indented lines."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(p if "\n " in p or p.startswith(" ") else " ".join(p.split("\n")) for p in paragraphs)


def _settings(thing: type) -> list[dict[str, Any]]:
    if not dataclasses.is_dataclass(thing):
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
