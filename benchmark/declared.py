"""What a class says of itself, read from its file: nothing is imported for a name, and what is imported takes seconds.

A class tells its settings by the fields of a dataclass and the docstring under each; nothing is written twice.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

REQUIRED = "(required)"
"""Default of a setting that has none."""


class Setting(NamedTuple):
    """A field of a dataclass."""

    name: str
    """With those around it: ``layers.site``."""
    default: Any
    """A plain value, or the expression that makes another one."""
    meaning: str


@dataclass(frozen=True)
class Declared:
    """A class or function at the top of a file."""

    module: str
    file: _File
    node: ast.ClassDef | ast.FunctionDef

    @property
    def where(self) -> str:
        return f"{self.module}:{self.node.name}"

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return (ast.get_docstring(self.node) or "").split("\n")[0]

    @property
    def about(self) -> str:
        """Its docstring and its file's."""
        texts = (ast.get_docstring(self.node), ast.get_docstring(self.file.tree))
        return "\n\n".join(dict.fromkeys(_reflowed(text) for text in texts if text))

    def settings(self) -> list[Setting]:
        """Its fields, those of its bases first, each followed by the fields of the dataclasses that it is made of."""
        return list(_settings(self, "", (self.where,)))


@dataclass(frozen=True)
class _File:
    tree: ast.Module
    top: Mapping[str, ast.stmt]
    """What is defined, assigned or imported at the top, by name."""


def declared(place: str) -> Declared | None:
    """The class or function of ``module:name``, wherever it is imported from; None: it is not to be found in a file."""
    module, _, name = place.partition(":")
    path = _path(module)
    return None if path is None else in_file(path, module, name)


def in_file(path: Path, module: str, name: str) -> Declared | None:
    """The same where the file is known."""
    file = _parsed(path)
    found = file.top.get(name) if file else None
    if isinstance(found, ast.ClassDef | ast.FunctionDef) and file is not None:
        return Declared(module, file, found)
    if isinstance(found, ast.ImportFrom) and found.module and not found.level:
        original = next(alias.name for alias in found.names if (alias.asname or alias.name) == name)
        return declared(f"{found.module}:{original}") if found.module != module else None
    return None


def _path(module: str) -> Path | None:
    """The file of a module; only its outermost package is looked up, and none is imported."""
    package, _, rest = module.partition(".")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not rest:
        return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        stem = Path(folder, *rest.split("."))
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None


@functools.lru_cache(maxsize=256)
def _parsed(path: Path) -> _File | None:
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    return _File(tree, dict(_top(tree)))


def _top(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, node) for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))


def _resolved(one: Declared, name: str) -> Declared | None:
    """A class that a name in the file of another one stands for."""
    there = one.file.top.get(name)
    if isinstance(there, ast.ClassDef):
        return Declared(one.module, one.file, there)
    if isinstance(there, ast.ImportFrom) and there.module and not there.level:
        original = next(alias.name for alias in there.names if (alias.asname or alias.name) == name)
        found = declared(f"{there.module}:{original}")
        return found if found is not None and isinstance(found.node, ast.ClassDef) else None
    return None


# --- settings


def _settings(one: Declared, prefix: str, around: tuple[str, ...]) -> Iterator[Setting]:
    """``around``: the classes that this one is a field of, itself included; none is entered twice."""
    for name, (owner, field, meaning) in _fields(one).items():
        yield Setting(prefix + name, _default(owner, field.value), meaning)
        for inner in _dataclasses(owner, field.annotation):
            if inner.where not in around:
                yield from _settings(inner, f"{prefix}{name}.", (*around, inner.where))


def _fields(one: Declared) -> dict[str, tuple[Declared, ast.AnnAssign, str]]:
    """Fields of the dataclass and its bases -> where each stands, and what it means."""
    found: dict[str, tuple[Declared, ast.AnnAssign, str]] = {}
    if not isinstance(one.node, ast.ClassDef):
        return found
    for base in reversed(one.node.bases):
        of = _resolved(one, base.id) if isinstance(base, ast.Name) else None
        found |= _fields(of) if of is not None else {}
    if not _is_dataclass(one.node):
        return found
    for field, text in zip(one.node.body, [*one.node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if "ClassVar" not in ast.unparse(field.annotation):
            inherited = found.get(field.target.id)
            found[field.target.id] = (one, field, _text(text) or (inherited[2] if inherited else ""))
    return found


def _text(node: ast.stmt | None) -> str:
    """The docstring of a field."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return " ".join(node.value.value.split()) if is_text else ""  # type: ignore[union-attr]


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _dataclasses(one: Declared, annotation: ast.expr) -> Iterator[Declared]:
    """Those that a type is made of."""
    for node in _parts(annotation):
        found = _resolved(one, node.id) if isinstance(node, ast.Name) else None
        if found is not None and isinstance(found.node, ast.ClassDef) and _is_dataclass(found.node):
            yield found


def _parts(annotation: ast.AST) -> Iterator[ast.AST]:
    """A type and all within it, but for what ``Annotated`` says beside it: a range may be a dataclass, too."""
    match annotation:
        case ast.Subscript(value=ast.Name("Annotated"), slice=ast.Tuple([kind, *_])):
            yield from _parts(kind)
        case _:
            yield annotation
            for part in ast.iter_child_nodes(annotation):
                yield from _parts(part)


def _default(one: Declared, value: ast.expr | None) -> Any:
    if value is None:
        return REQUIRED
    if isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == "field":
        return _field_default(one, value)
    if isinstance(value, ast.Name | ast.Attribute):
        value = _constant(one, value)
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError):
        return ast.unparse(value)


def _field_default(one: Declared, call: ast.Call) -> Any:
    """Of ``field(default=...)`` or ``field(default_factory=...)``."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    factory = given.get("default_factory")
    if factory is None:
        return _default(one, given.get("default"))
    if isinstance(factory, ast.Lambda):
        return _default(one, factory.body)
    empty = {"dict": {}, "list": [], "tuple": (), "set": []}
    name = ast.unparse(factory)
    return empty.get(name, f"{name}()")


def _constant(one: Declared, value: ast.Name | ast.Attribute) -> ast.expr:
    """What a constant of the file, or an attribute of a class, is; else the expression itself."""
    if isinstance(value, ast.Name):
        found = one.file.top.get(value.id)
        return found.value if isinstance(found, ast.Assign) else value
    of = _resolved(one, value.value.id) if isinstance(value.value, ast.Name) else None
    if of is None or not isinstance(of.node, ast.ClassDef):
        return value
    if value.attr == "name":
        for decorator in of.node.decorator_list:  # what registers a class names it
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).startswith("register"):
                return decorator.args[0]
    for node in of.node.body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == value.attr for target in node.targets):
            return node.value
    return value


def _reflowed(text: str) -> str:
    """A docstring whose paragraphs are one line each, but for those with indented lines."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(p if "\n " in p or p.startswith(" ") else " ".join(p.split("\n")) for p in paragraphs)
