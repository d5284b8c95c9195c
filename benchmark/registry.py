"""Names for tasks, judges, defenses, attacks and suites: decorators, entry points, ``file.py:Class`` and spec files.

Built-ins are entry points like a third party's, so that a third party's package is a first-class citizen. An entry
point that cannot be imported is listed as broken and breaks nothing else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from benchmark.errors import UsageError
from benchmark.files import is_file
from benchmark.names import checked_name
from benchmark.sealed import refuse_while_learning

T = TypeVar("T")
_OWN = "recoverybench"
_FILE = "recoverybench_file_"
"""What the names of modules begin with that were made of files."""


def suggestion(name: str, known: Sequence[str]) -> str:
    """`` Did you mean 'x'?`` for a name that is nearly known, else nothing."""
    from rapidfuzz import process, utils  # a mistake needs it, and no answer of the command line

    near = process.extractOne(name, known, processor=utils.default_process, score_cutoff=60)
    return f" Did you mean {near[0]!r}?" if near else ""


@dataclass
class Registry(Generic[T]):
    """Things of one kind by name."""

    kind: str
    """Singular, for messages: ``defense``."""
    group: str
    """Entry-point group."""
    holds_data: bool = False
    """What is in it leads to examples, so that it is closed while a defense learns."""
    known: dict[str, T] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """Name -> why its entry point could not be loaded."""
    _scanned: tuple[tuple[str, ...], Mapping[str, EntryPoint]] | None = field(default=None, repr=False)
    """Where packages were looked for, and what was found; each look opens all of their metadata."""

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: make a class known under ``name``.

        Raises:
            UsageError: the name is taken by something else.
        """

        checked_name(name, f"a {self.kind}")

        def add(thing: T) -> T:
            owner = self._owner(name)
            if owner is not None and owner != _origin(thing):
                raise UsageError(f"two {self.kind}s are named {name!r}: {owner} and {_origin(thing)}; rename one")
            if isinstance(thing, type):
                thing.name = name  # type: ignore[attr-defined]
            self.known[name] = thing
            return thing

        return add

    def names(self) -> list[str]:
        """All names, sorted, whether or not they have been loaded."""
        return sorted({*self._entries(), *self.known})

    def get(self, name: str) -> T:
        """The thing itself.

        Raises:
            UsageError: no such name (with a suggestion), its entry point is broken, or it is closed to who asks.
        """
        if self.holds_data:
            refuse_while_learning(f"the {self.kind} {name!r}")
        if name not in self.known and name in self._entries():
            self._load(name, self._entries()[name])
        if name in self.known:
            return self.known[name]
        if name in self.broken:
            raise UsageError(
                f"the {self.kind} {name!r} cannot be loaded: {self.broken[name]}; repair or remove its package"
            )
        raise UsageError(self._unknown(name))

    def place(self, name: str) -> str | None:
        """``module:attribute`` of a built-in, which is not imported for it; None: it is none."""
        entry = self._entries().get(name)
        return entry.value if entry is not None and _is_built_in(entry) else None

    def _unknown(self, name: str) -> str:
        return f"unknown {self.kind} {name!r}.{suggestion(name, self.names())} Available: {', '.join(self.names())}"

    def _owner(self, name: str) -> str | None:
        """What has the name already: something registered, or a built-in that is not loaded yet."""
        if name in self.known:
            return _origin(self.known[name])
        return self.place(name)

    def _entries(self) -> Mapping[str, EntryPoint]:
        places = tuple(sys.path)
        if self._scanned is None or self._scanned[0] != places:
            ordered = sorted(entry_points(group=self.group), key=_is_built_in)
            self._scanned = places, {entry.name: entry for entry in ordered}  # the built-in, last, wins a clash
        return self._scanned[1]

    def _load(self, name: str, entry: EntryPoint) -> None:
        try:
            self.known[name] = entry.load()
        except (Exception, SystemExit) as error:  # a third party's import may raise anything, and end the process
            self.broken[name] = told(error)


def _is_built_in(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == _OWN


def _origin(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '?')}:{getattr(thing, '__qualname__', thing)}"


TASKS: Registry[Any] = Registry("task", "recoverybench.tasks", holds_data=True)
JUDGES: Registry[Any] = Registry("judge", "recoverybench.judges")
DEFENSES: Registry[Any] = Registry("defense", "recoverybench.defenses")
ATTACKS: Registry[Any] = Registry("attack", "recoverybench.attacks")
THREATS: Registry[Any] = Registry("threat model", "recoverybench.threats")
PROTOCOLS: Registry[Any] = Registry("protocol", "recoverybench.protocols")
SOURCES: Registry[Any] = Registry("data source", "recoverybench.sources", holds_data=True)
"""Name -> function from an item's name to its records: what ``source: NAME:ITEM`` of a task's data stands for."""
SUITES: Registry[Path] = Registry("suite", "recoverybench.suites", holds_data=True)
"""Name -> path of the suite's YAML file."""

register_task = TASKS.register
register_judge = JUDGES.register
register_defense = DEFENSES.register
register_attack = ATTACKS.register
register_threat = THREATS.register
register_protocol = PROTOCOLS.register
register_source = SOURCES.register


def threat(name: str) -> Any:
    """The threat model of a name (``benchmark.contracts.threat.Threat``).

    Raises:
        UsageError: there is none.
    """
    return THREATS.get(name)()


def is_reference(named: str) -> bool:
    """Whether a name is one of a class in a file."""
    return ".py:" in named or named.endswith(".py")


def from_file(reference: str, base: type) -> type:
    """The class of ``path/to/file.py:Class``.

    Raises:
        UsageError: no such file or class, an import error in the file, or a class of another kind.
    """
    path_text, _, class_name = reference.rpartition(":") if ".py:" in reference else (reference, "", "")
    path = Path(path_text)
    if not is_file(path):
        raise UsageError(f"{reference!r}: there is no file {path_text!r}; write path/to/file.py:Class")
    module = _import(path)
    own = {
        name: thing
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, base) and thing.__module__ == module.__name__
    }
    if class_name not in own:
        has = f"it has: {', '.join(own) or 'none'}"
        if not class_name:
            raise UsageError(
                f"{reference}: say which class, {path_text}:NAME; {path} has no {base.__name__} named ''; {has}"
            )
        imported = "; that is only imported there: name the file it is from" if class_name in vars(module) else ""
        raise UsageError(f"{path} has no {base.__name__} named {class_name!r}; {has}{imported}; name one of the file")
    found = own[class_name]
    if "name" not in vars(found):
        found.name = class_name  # type: ignore[attr-defined]
    return found


def defining_file(kind: type) -> Path | None:
    """The file of a class that was named as ``file.py:Class``; None: it is of a package."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None) if kind.__module__.startswith(_FILE) else None
    return None if file is None else Path(file)


def told(error: BaseException) -> str:
    """An error of anybody's code in one line."""
    try:
        text = str(error)
    except Exception:
        text = "(it cannot be shown)"
    return f"{type(error).__name__}: {text}"


def _import(path: Path) -> Any:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"{_FILE}{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # its code may raise anything, and end the process
        sys.modules.pop(name, None)
        line = _line(error, path)
        raise UsageError(f"{path} cannot be imported: {told(error)}{line}; correct the file") from error
    return module


def _line(error: BaseException, path: Path) -> str:
    """Where in the file an error was raised."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})" if f"line {error.lineno}" not in str(error) else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""
