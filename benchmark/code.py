"""Which code takes part: the sources of a class and of what it imports from beside it, by content.

What was installed from elsewhere is left out; ``run.json`` names its version. A class that no file holds, of a notebook
or typed at a prompt, stands by the bytecode of its functions and of those that they call, and by the values that they
refer to.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark.bytecode import bytecode, functions_in, functions_of, names_read
from benchmark.contracts.example import Example
from benchmark.errors import UsageError
from benchmark.imports import (
    OWN,
    SourceFile,
    file_of,
    files_of,
    is_library,
    is_ones_own,
    real_path,
    top_name,
    with_imports,
)
from benchmark.values import Inexact, attributes, exact, file_hash, is_transparent, sha

Files = Mapping[str, str]
"""What takes part -> short hash: modules by their dotted name, other files by their place beside the first."""

_MADE = ("__", "_abc_", "_field_defaults")
"""Names that Python gives a class by itself, or that say what its functions or annotations say."""
ENGINE = "benchmark.run.runner"
"""What a measurement runs through is what this module imports; the verbs, the display and the board are not."""


def engine() -> Files:
    """The files that every measurement runs through."""
    return _hashed(with_imports(files_of(ENGINE, OWN)).values())


def code_of(leads: Iterable[Any], held: Iterable[Any] = ()) -> Files:
    """The sources of classes and functions, with what they import from beside them.

    Args:
        leads: what takes part by itself; if it was installed, all of its package that it imports takes part.
        held: what those are given. Of an installed library's class, only its own file takes part.

    Raises:
        UsageError: a source cannot be read, was changed after Python loaded it, or refers to what cannot be hashed.
    """
    leads = list(leads)
    followed = OWN | {top_name(getattr(lead, "__module__", None)) for lead in leads}
    return _Search(frozenset(followed)).of([*leads, *held])


def summary(files: Files) -> str:
    """One short hash for all of them."""
    return sha(dict(files))


def classes_in(value: Any) -> list[Any]:
    """The classes of the objects that an object holds, itself first, and the functions that it holds."""
    found: dict[int, Any] = {}
    _walk(value, found, set())
    return list(found.values())


def _walk(value: Any, found: dict[int, Any], seen: set[int]) -> None:
    if id(value) in seen or value is None or isinstance(value, str | bytes | int | float | Example):
        return
    seen.add(id(value))
    if isinstance(value, types.FunctionType | type):
        found[id(value)] = value
        return
    found[id(type(value))] = type(value)
    if isinstance(value, Mapping):
        parts: Iterable[Any] = [*value, *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = value
    else:
        parts = [part for _, part in attributes(value)] if is_transparent(type(value)) else ()
    for part in parts:
        _walk(part, found, seen)


class _Search:
    """Goes from classes and functions to files, and to the bytecode of what no file holds."""

    def __init__(self, followed: frozenset[str]) -> None:
        self.followed = followed
        self.files: dict[Path, SourceFile] = {}
        self.typed: dict[str, str] = {}
        self.seen: list[Any] = []

    def of(self, things: Iterable[Any]) -> Files:
        for thing in things:
            self._thing(thing)
            if isinstance(thing, types.FunctionType):  # a file may hold several of one name: lambdas
                self._note(f"{thing.__qualname__} (held)", bytecode(thing.__code__))
        return {**_hashed(self.files.values()), **self.typed}

    def _thing(self, thing: Any) -> None:
        if any(known is thing for known in self.seen):
            return
        self.seen.append(thing)
        if isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, types.FunctionType):
            self._function(thing)

    def _class(self, kind: type) -> None:
        for one in kind.__mro__:
            functions = list(functions_of(one))
            file = file_of(one.__module__)
            if file is not None and _holds(file, one.__module__, functions):
                self._add(file)
            elif is_ones_own(top_name(one.__module__)):
                self._note(f"{one.__qualname__} (typed in)", self._attributes(one))
            for function in functions if is_ones_own(top_name(one.__module__)) else ():
                self._thing(function)

    def _attributes(self, kind: type) -> Any:
        """Values of a class that stand in no file; its functions follow by themselves."""
        bases = [f"{b.__module__}.{b.__qualname__}" for b in kind.__bases__]
        held = {
            n: v for n, v in vars(kind).items() if not n.startswith(_MADE) and not functions_in(v) and not _is_slot(v)
        }
        return [bases, {name: self._value(value, f"{kind.__qualname__}.{name}") for name, value in held.items()}]

    def _function(self, function: types.FunctionType) -> None:
        if is_library(function.__code__.co_filename):
            return
        file = file_of(function.__module__)
        written = file is not None and real_path(function.__code__.co_filename) == file.path
        if file is not None and written:
            self._add(file)
        around = self._around(function)
        if not written:
            self._note(f"{function.__qualname__} (typed in)", [around, *self._typed(function)])
        elif around:
            self._note(f"{function.__qualname__} (its variables)", around)

    def _around(self, function: types.FunctionType) -> dict[str, Any]:
        """The values that a function was made around."""
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return {n: self._cell(c, f"{function.__qualname__} (its variable {n})") for n, c in cells if n != "__class__"}

    def _typed(self, function: types.FunctionType) -> list[Any]:
        """What a function does that no file holds."""
        name, code = function.__qualname__, function.__code__
        defaults = self._value([function.__defaults__, function.__kwdefaults__], f"{name} (its defaults)")
        used = {n: function.__globals__[n] for n in sorted(names_read(code)) if n in function.__globals__}
        return [bytecode(code), defaults, {n: self._value(v, f"{name} (the name {n})") for n, v in used.items()}]

    def _cell(self, cell: types.CellType, where: str) -> Any:
        try:
            return self._value(cell.cell_contents, where)
        except ValueError:  # not bound yet
            return None

    def _value(self, value: Any, where: str) -> Any:
        """What a name in typed code stands for: other code, by following it, or a value."""
        if isinstance(value, types.ModuleType):
            for file in files_of(value.__name__, self.followed):
                self._add(file)
            return {"!module": value.__name__}
        if isinstance(value, types.FunctionType | type):
            self._thing(value)
            which = bytecode(value.__code__) if isinstance(value, types.FunctionType) else None
            return {"!code": f"{value.__module__}.{value.__qualname__}", "of": which}
        if isinstance(value, list | tuple):
            return [self._value(item, where) for item in value]
        if isinstance(value, functools.partial | types.MethodType):
            names = ("func", "args", "keywords", "__func__", "__self__")
            return [self._value(getattr(value, name), where) for name in names if hasattr(value, name)]
        if inner := functions_in(value):
            return {"!wrapped": type(value).__qualname__, "of": [self._value(f, where) for f in inner]}
        if isinstance(value, types.BuiltinFunctionType) or _is_fixed(value):
            return {"!code": f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"}
        try:
            return exact(value, where)
        except Inexact as error:
            raise UsageError(
                f"{error}. Where it is code that uses it: put the class into a file of its own (FILE.py:Class), or "
                "what it uses into its settings"
            ) from error

    def _note(self, name: str, content: Any) -> None:
        number = sum(known.split(" #")[0] == name for known in self.typed)
        self.typed[f"{name} #{number}" if number else name] = sha(content)

    def _add(self, file: SourceFile) -> None:
        if file.path not in self.files:
            alone = is_library(str(file.path)) and file.top not in self.followed
            self.files |= {file.path: file} if alone else with_imports([file], self.files)


def _holds(file: SourceFile, module: str, functions: Iterable[types.FunctionType]) -> bool:
    """Whether the file holds the class of these functions; ``__main__`` may have one and be typed into nevertheless."""
    sources = {f.__code__.co_filename for f in functions if not f.__code__.co_filename.startswith("<")}
    return module != "__main__" and not sources or any(real_path(source) == file.path for source in sources)


def _is_fixed(value: Any) -> bool:
    """An annotation, or a compiled function of a library, like numpy's: its name says what it is."""
    annotation = isinstance(value, types.GenericAlias | types.UnionType) or type(value).__module__ == "typing"
    return annotation or top_name(type(value).__module__) == "numpy" and callable(value)


def _is_slot(value: Any) -> bool:
    """A place in an object that Python makes for a name."""
    return hasattr(type(value), "__get__") and not is_transparent(type(value))


_LOADED: dict[str, tuple[Any, str]] = {}
"""Module -> what Python loaded it by, and its hash then."""


def _hashed(files: Iterable[SourceFile]) -> dict[str, str]:
    return dict(sorted((file.label, _fresh(file)[:16]) for file in files))


def _fresh(file: SourceFile) -> str:
    """The hash of a file.

    Raises:
        UsageError: Python runs an older text of it.
    """
    digest = file_hash(file.path)
    loaded = getattr(sys.modules.get(file.name), "__spec__", None) if file.name else None
    if loaded is not None:
        known = _LOADED.setdefault(file.name, (loaded, digest))
        if known[0] is loaded and known[1] != digest:
            raise UsageError(
                f"{file.path} was changed after Python loaded it: this process runs the older text. Start it again (in "
                "a notebook: restart the kernel, or importlib.reload the module and what imports it)"
            )
        _LOADED[file.name] = (loaded, digest)
    return digest
