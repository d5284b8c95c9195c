"""Which code takes part: the sources of a class and of what it imports from beside it, by content.

Imports are found in the text, wherever they stand (an import in a function too), and followed into

* the package that the importing file is of, all of it,
* files beside a file that is given by path,
* the packages of this distribution,
* modules on Python's path that nobody installed: a user's own.

What was installed from elsewhere is left out; ``run.json`` names its version. A class that no file holds, of a notebook
or typed at a prompt, stands by the bytecode of its functions and of those that they call, and by the values that they
refer to. Code that is found in another way (``exec``, a name that is put together) is not seen.
"""

from __future__ import annotations

import ast
import dis
import functools
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.contracts.example import Example
from benchmark.errors import UsageError
from benchmark.values import Inexact, attributes, exact, file_hash, is_transparent, sha

Files = Mapping[str, str]
"""What takes part -> short hash: modules by their dotted name, other files by their place beside the first."""

OWN = frozenset({"benchmark", "tasks", "defenses", "attacks"})
"""Packages of this distribution that take part in a run."""
_MADE = ("__", "_abc_", "_field_defaults")
"""Names that Python gives a class by itself, or that say what its functions or annotations say."""
ENGINE = "benchmark.run.runner"
"""What a measurement runs through is what this module imports; the verbs, the display and the board are not."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STANDARD_NAMES = (sys.stdlib_module_names | frozenset(sys.builtin_module_names)) - {"__main__"}
_STANDARD = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")})


@dataclass(frozen=True)
class _File:
    """A source; ``name`` is dotted, or empty for a file that is given by path."""

    path: Path
    name: str
    root: Path
    """What the place of a file given by path is told from."""

    @property
    def top(self) -> str:
        return _top_name(self.name)

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


def engine() -> Files:
    """The files that every measurement runs through."""
    return _hashed(_closure(_named(ENGINE, OWN)).values())


def code_of(leads: Iterable[Any], held: Iterable[Any] = ()) -> Files:
    """The sources of classes and functions, with what they import from beside them.

    Args:
        leads: what takes part by itself; if it was installed, all of its package that it imports takes part.
        held: what those are given. Of an installed library's class, only its own file takes part.

    Raises:
        UsageError: a source cannot be read, was changed after Python loaded it, or refers to what cannot be hashed.
    """
    leads = list(leads)
    followed = OWN | {_top_name(getattr(lead, "__module__", None)) for lead in leads}
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
        self.files: dict[Path, _File] = {}
        self.typed: dict[str, str] = {}
        self.seen: list[Any] = []

    def of(self, things: Iterable[Any]) -> Files:
        for thing in things:
            self._thing(thing)
            if isinstance(thing, types.FunctionType):  # a file may hold several of one name: lambdas
                self._note(f"{thing.__qualname__} (held)", _bytecode(thing.__code__))
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
            functions = list(_functions(one))
            file = _file_of(one.__module__)
            if file is not None and _holds(file, one.__module__, functions):
                self._add(file)
            elif _is_ones_own(_top_name(one.__module__)):
                self._note(f"{one.__qualname__} (typed in)", self._attributes(one))
            for function in functions if _is_ones_own(_top_name(one.__module__)) else ():
                self._thing(function)

    def _attributes(self, kind: type) -> Any:
        """Values of a class that stand in no file; its functions follow by themselves."""
        bases = [f"{b.__module__}.{b.__qualname__}" for b in kind.__bases__]
        held = {n: v for n, v in vars(kind).items() if not n.startswith(_MADE) and not _inner(v) and not _is_slot(v)}
        return [bases, {name: self._value(value, f"{kind.__qualname__}.{name}") for name, value in held.items()}]

    def _function(self, function: types.FunctionType) -> None:
        if _is_library(function.__code__.co_filename):
            return
        file = _file_of(function.__module__)
        written = file is not None and _real(function.__code__.co_filename) == file.path
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
        used = {n: function.__globals__[n] for n in sorted(_globals_in(code)) if n in function.__globals__}
        return [_bytecode(code), defaults, {n: self._value(v, f"{name} (the name {n})") for n, v in used.items()}]

    def _cell(self, cell: types.CellType, where: str) -> Any:
        try:
            return self._value(cell.cell_contents, where)
        except ValueError:  # not bound yet
            return None

    def _value(self, value: Any, where: str) -> Any:
        """What a name in typed code stands for: other code, by following it, or a value."""
        if isinstance(value, types.ModuleType):
            for file in _named(value.__name__, self.followed):
                self._add(file)
            return {"!module": value.__name__}
        if isinstance(value, types.FunctionType | type):
            self._thing(value)
            which = _bytecode(value.__code__) if isinstance(value, types.FunctionType) else None
            return {"!code": f"{value.__module__}.{value.__qualname__}", "of": which}
        if isinstance(value, list | tuple):
            return [self._value(item, where) for item in value]
        if isinstance(value, functools.partial | types.MethodType):
            names = ("func", "args", "keywords", "__func__", "__self__")
            return [self._value(getattr(value, name), where) for name in names if hasattr(value, name)]
        if inner := _inner(value):
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

    def _add(self, file: _File) -> None:
        if file.path not in self.files:
            alone = _is_library(str(file.path)) and file.top not in self.followed
            self.files |= {file.path: file} if alone else _closure([file], self.files)


def _functions(kind: type) -> Iterator[types.FunctionType]:
    """The functions that a class itself defines, but those that ``dataclass`` and ``NamedTuple`` add."""
    for value in vars(kind).values():
        for function in _inner(value):
            code = function.__code__
            if not code.co_qualname.startswith("__create_fn__") and not code.co_filename.startswith(_STANDARD):
                yield function


def _inner(value: Any) -> list[types.FunctionType]:
    """The functions in a method, property or decorated function."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    parts = [value, getattr(value, "__wrapped__", None), getattr(value, "func", None)]
    parts += [getattr(value, name, None) for name in ("fget", "fset", "fdel")] if isinstance(value, property) else []
    return [part for part in parts if isinstance(part, types.FunctionType)]


def _holds(file: _File, module: str, functions: Iterable[types.FunctionType]) -> bool:
    """Whether the file holds the class of these functions; ``__main__`` may have one and be typed into nevertheless."""
    sources = {f.__code__.co_filename for f in functions if not f.__code__.co_filename.startswith("<")}
    return module != "__main__" and not sources or any(_real(source) == file.path for source in sources)


def _is_fixed(value: Any) -> bool:
    """An annotation, or a compiled function of a library, like numpy's: its name says what it is."""
    annotation = isinstance(value, types.GenericAlias | types.UnionType) or type(value).__module__ == "typing"
    return annotation or _top_name(type(value).__module__) == "numpy" and callable(value)


def _is_slot(value: Any) -> bool:
    """A place in an object that Python makes for a name."""
    return hasattr(type(value), "__get__") and not is_transparent(type(value))


def _is_library(file: str) -> bool:
    """It came with Python, or was installed."""
    return bool(_INSTALLED & set(Path(file).parts)) or file.startswith(_STANDARD)


def _globals_in(code: types.CodeType) -> set[str]:
    """Names of a module that a function reads, and the functions in it."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return names.union(*(_globals_in(part) for part in inner))


def _bytecode(code: types.CodeType) -> list[Any]:
    """What a function does, without where it stands."""
    consts = [_bytecode(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    return [code.co_code.hex(), code.co_argcount, code.co_kwonlyargcount, code.co_flags, consts, *map(list, names)]


def _constant(value: Any) -> Any:
    return "..." if value is Ellipsis else value if isinstance(value, str) else exact(value, "constant")


# --- files


def _file_of(module: str | None) -> _File | None:
    """The source of a loaded module; None: it has none, or came with Python."""
    loaded = sys.modules.get(module or "")
    file = getattr(loaded, "__file__", None)
    if module is None or loaded is None or file is None or _top_name(module) in _STANDARD_NAMES:
        return None
    path = _real(file)
    if not path.is_file():
        return None
    by_path = module == "__main__" or _top(_top_name(module)) is None
    return _File(path, "" if by_path else module, path.parent)


def _top_name(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _named(name: str, followed: frozenset[str]) -> list[_File]:
    """The files of a module and of the packages around it, if it is to be followed."""
    if not (_top_name(name) in followed or _top(_top_name(name)) and _is_ones_own(_top_name(name))):
        return []
    parts = name.split(".")
    paths = [(".".join(parts[: i + 1]), _locate(".".join(parts[: i + 1]))) for i in range(len(parts))]
    return [_File(path, full, path.parent) for full, path in paths if path is not None]


def _is_ones_own(top: str) -> bool:
    """A module that neither came with Python nor was installed; also one that has no file, like a notebook's."""
    places = _top(top)
    return top not in _STANDARD_NAMES and not any(_is_library(place) for place in places or ())


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
        return None if file is None else _real(file)
    parent = name.rpartition(".")[0]
    places = _search_places(parent) if parent else []
    found = _spec(name) if not parent else PathFinder.find_spec(name, places) if places else None
    return _real(found.origin) if found is not None and found.has_location and found.origin else None


@functools.cache
def _real(file: str) -> Path:
    return Path(file).resolve()


def _search_places(package: str) -> list[str]:
    loaded = sys.modules.get(package)
    if loaded is not None:
        return list(getattr(loaded, "__path__", ()))
    path = _locate(package)
    return [str(path.parent)] if path is not None and path.stem == "__init__" else []


def _closure(roots: Iterable[_File], known: Mapping[Path, _File] = types.MappingProxyType({})) -> dict[Path, _File]:
    """The files, and all that they import from beside them, but for what is known."""
    found: dict[Path, _File] = {}
    left = list(roots)
    while left:
        file = left.pop()
        if file.path not in found and file.path not in known:
            found[file.path] = file
            left += _needs(file, file_hash(file.path), file.path.parent.stat().st_mtime_ns)
    return found


@functools.lru_cache(maxsize=4096)
def _needs(file: _File, content: str, folder_changed: int) -> tuple[_File, ...]:
    """What a file of this content imports from beside it, with the files that its folder has now."""
    wanted = _imports(file.path, content)
    return tuple(dict.fromkeys(found for one in wanted for found in _meant(file, one)))


def _meant(file: _File, wanted: _Import) -> Iterator[_File]:
    base = _absolute(wanted, file.package) if file.name else wanted.module
    for name in (base, *(f"{base}.{n}".lstrip(".") for n in wanted.names)):
        if not file.name:
            yield from _beside(file, wanted.level, name)
        if name and (file.name or not wanted.level):
            yield from _named(name, OWN | {file.top})


def _absolute(wanted: _Import, package: str) -> str:
    if not wanted.level:
        return wanted.module
    parts = package.split(".")
    around = parts[: len(parts) - wanted.level + 1]
    return ".".join([*around, wanted.module] if wanted.module else around)


def _beside(file: _File, level: int, name: str) -> Iterator[_File]:
    """Files that an import means in the folder of a file that is given by path, with the packages around them."""
    around = [file.path.parent, *file.path.parent.parents]
    for folder in (file.root, around[0]) if not level else around[level - 1 : level]:
        parts = name.split(".") if name else []
        for place in (folder.joinpath(*parts[: i + 1]) for i in range(len(parts))):
            for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
                if path.is_file() and path.is_relative_to(file.root):
                    yield _File(path, "", file.root)


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


_LOADED: dict[str, tuple[Any, str]] = {}
"""Module -> what Python loaded it by, and its hash then."""


def _hashed(files: Iterable[_File]) -> dict[str, str]:
    return dict(sorted((file.label, _fresh(file)[:16]) for file in files))


def _fresh(file: _File) -> str:
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
