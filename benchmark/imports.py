"""Which files a source imports from beside it.

Imports are found in the text, wherever they stand (an import in a function too), and followed into

* the package that the importing file is of, all of it,
* files beside a file that is given by path,
* the packages of this distribution,
* modules on Python's path that nobody installed: a user's own.

What is found in another way (``exec``, a name that is put together) is not seen.
"""

from __future__ import annotations

import ast
import functools
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.values import file_hash

OWN = frozenset({"benchmark", "tasks", "defenses", "attacks"})
"""Packages of this distribution that take part in a run."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STANDARD_NAMES = (sys.stdlib_module_names | frozenset(sys.builtin_module_names)) - {"__main__"}
STANDARD = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")})


@dataclass(frozen=True)
class SourceFile:
    """A source; ``name`` is dotted, or empty for a file that is given by path."""

    path: Path
    name: str
    root: Path
    """What the place of a file given by path is told from."""

    @property
    def top(self) -> str:
        return top_name(self.name)

    @property
    def label(self) -> str:
        return self.name or self.path.relative_to(self.root).as_posix()

    @property
    def package(self) -> str:
        """What its relative imports are relative to."""
        return self.name if self.path.stem == "__init__" else self.name.rpartition(".")[0]


class _Import(NamedTuple):
    """``from {level dots}{module} import {names}``."""

    level: int
    module: str
    names: tuple[str, ...]


def file_of(module: str | None) -> SourceFile | None:
    """The source of a loaded module; None: it has none, or came with Python."""
    loaded = sys.modules.get(module or "")
    file = getattr(loaded, "__file__", None)
    if module is None or loaded is None or file is None or top_name(module) in _STANDARD_NAMES:
        return None
    path = real_path(file)
    if not path.is_file():
        return None
    by_path = module == "__main__" or _top(top_name(module)) is None
    return SourceFile(path, "" if by_path else module, path.parent)


def top_name(module: str | None) -> str:
    return (module or "").partition(".")[0]


def files_of(name: str, followed: frozenset[str]) -> list[SourceFile]:
    """The files of a module and of the packages around it, if it is to be followed."""
    top = top_name(name)  # none: a relative import of a module that lies in no package, which Python refuses
    if not (top and (top in followed or _top(top) and is_ones_own(top))):
        return []
    parts = name.split(".")
    paths = [(".".join(parts[: i + 1]), _locate(".".join(parts[: i + 1]))) for i in range(len(parts))]
    return [SourceFile(path, full, path.parent) for full, path in paths if path is not None]


def is_ones_own(top: str) -> bool:
    """A module that neither came with Python nor was installed; also one that has no file, like a notebook's."""
    places = _top(top)
    return top not in _STANDARD_NAMES and not any(is_library(place) for place in places or ())


def _top(name: str) -> list[str] | None:
    """Where a top-level module or package lies; None: its name does not lead to it."""
    if name not in _TOPS:
        spec = _spec(name)
        if spec is None:
            return None
        _TOPS[name] = list(spec.submodule_search_locations or ([spec.origin] if spec.origin else []))
    return _TOPS[name]


_TOPS: dict[str, list[str]] = {}
"""What was found; what was not is looked for again."""


def _spec(name: str) -> Any:
    """Where Python would look, whatever it has loaded under that name."""
    finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
    return next((spec for find in finders if find is not None and (spec := find(name, None)) is not None), None)


def _locate(name: str) -> Path | None:
    """The file of a module, without importing it."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return None if file is None else real_path(file)
    parent = name.rpartition(".")[0]
    places = _search_places(parent) if parent else []
    found = _spec(name) if not parent else PathFinder.find_spec(name, places) if places else None
    return real_path(found.origin) if found is not None and found.has_location and found.origin else None


@functools.cache
def real_path(file: str) -> Path:
    return Path(file).resolve()


def _search_places(package: str) -> list[str]:
    loaded = sys.modules.get(package)
    if loaded is not None:
        return list(getattr(loaded, "__path__", ()))
    path = _locate(package)
    return [str(path.parent)] if path is not None and path.stem == "__init__" else []


def with_imports(
    roots: Iterable[SourceFile], known: Mapping[Path, SourceFile] = types.MappingProxyType({})
) -> dict[Path, SourceFile]:
    """The files, and all that they import from beside them, but for what is known."""
    found: dict[Path, SourceFile] = {}
    left = list(roots)
    while left:
        file = left.pop()
        if file.path not in found and file.path not in known:
            found[file.path] = file
            left += _needs(file, file_hash(file.path), file.path.parent.stat().st_mtime_ns)
    return found


@functools.lru_cache(maxsize=4096)
def _needs(file: SourceFile, content: str, folder_changed: int) -> tuple[SourceFile, ...]:
    """What a file of this content imports from beside it, with the files that its folder has now."""
    wanted = _imports(file.path, content)
    return tuple(dict.fromkeys(found for one in wanted for found in _meant(file, one)))


def _meant(file: SourceFile, wanted: _Import) -> Iterator[SourceFile]:
    base = _absolute(wanted, file.package) if file.name else wanted.module
    for name in (base, *(f"{base}.{n}".lstrip(".") for n in wanted.names)):
        if not file.name:
            yield from _beside(file, wanted.level, name)
        if name and (file.name or not wanted.level):
            yield from files_of(name, OWN | {file.top})


def _absolute(wanted: _Import, package: str) -> str:
    if not wanted.level:
        return wanted.module
    parts = package.split(".")
    around = parts[: len(parts) - wanted.level + 1]
    return ".".join([*around, wanted.module] if wanted.module else around)


def _beside(file: SourceFile, level: int, name: str) -> Iterator[SourceFile]:
    """Files that an import means in the folder of a file that is given by path, with the packages around them."""
    around = [file.path.parent, *file.path.parent.parents]
    for folder in (file.root, around[0]) if not level else around[level - 1 : level]:
        parts = name.split(".") if name else []
        for place in (folder.joinpath(*parts[: i + 1]) for i in range(len(parts))):
            for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
                if path.is_file() and path.is_relative_to(file.root):
                    yield SourceFile(path, "", file.root)


def _imports(path: Path, content: str) -> tuple[_Import, ...]:
    """What a source of this content imports; nothing where it is no Python text (compiled: its bytes are its hash)."""
    if path.suffix not in (".py", ".pyw"):
        return ()
    try:
        text = path.read_bytes()
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ()
    calls = ast.walk(tree) if b"import_module" in text or b"__import__" in text else ()
    found = [found for node in _statements(tree) if (found := _import(node))]
    return (*found, *(_Import(0, name, ()) for node in calls for name in _called(node)))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements, wherever they stand."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for part in getattr(node, field, ()) if isinstance(getattr(node, field, ()), list) else ():
            yield part
            yield from _statements(part)


def _import(node: ast.AST) -> _Import | None:
    if isinstance(node, ast.Import):
        return _Import(0, "", tuple(alias.name for alias in node.names))
    if isinstance(node, ast.ImportFrom):
        return _Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
    return None


def _called(node: ast.AST) -> Iterator[str]:
    """``import_module("name")``."""
    named = getattr(node, "func", None)
    if isinstance(node, ast.Call) and (getattr(named, "attr", "") or getattr(named, "id", "")) in (
        "import_module",
        "__import__",
    ):
        yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def is_library(file: str) -> bool:
    """It came with Python, or was installed."""
    return bool(_INSTALLED & set(Path(file).parts)) or file.startswith(STANDARD)
