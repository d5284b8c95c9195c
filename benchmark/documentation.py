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
    page = (module.__doc__ or "").strip() if module else ""
    about = "\n\n".join(dict.fromkeys(part for part in ((thing.__doc__ or "").strip(), page) if part))
    return {"where": f"{thing.__module__}:{thing.__qualname__}", "about": about, "settings": _settings(thing)}


def _settings(thing: type) -> list[dict[str, Any]]:
    if not dataclasses.is_dataclass(thing):
        return []
    meanings = _field_docstrings(thing)
    return [
        {"name": f.name, "default": _default(f), "meaning": meanings.get(f.name, "")} for f in dataclasses.fields(thing)
    ]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is dataclasses.MISSING:
        return "(required)"
    return str(field.default) if dataclasses.is_dataclass(field.default) else field.default


def _field_docstrings(thing: type) -> dict[str, str]:
    """Field -> the string literal that follows it in the class body."""
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
