"""Defenses, attacks and tasks as data: what a name, a ``file.py:Class`` or a spec file stands for, and back again."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from benchmark.code import Files, classes_in, code_of, summary
from benchmark.contracts.attack import Attack
from benchmark.contracts.defense import Defense
from benchmark.contracts.task import Task
from benchmark.documents import faults, read
from benchmark.errors import UsageError
from benchmark.files import is_file
from benchmark.names import checked_name
from benchmark.plain_values import Document, shown
from benchmark.registry import ATTACKS, DEFENSES, TASKS, THREATS, defining_file, from_file, is_reference, told
from benchmark.values import by_content, exact, held_by


class Edition(NamedTuple):
    """What a defense is evaluated with once more: other SAEs of its suite than the first of each site."""

    of: str
    """Name of the defense."""
    saes: tuple[tuple[str, str], ...]
    """Site and source of the SAE there."""


@dataclasses.dataclass(frozen=True)
class Named:
    """A defense with the name it has in the results."""

    name: str
    defense: Defense
    edition: Edition | None = None
    """None: it reads the first SAE of each site."""

    @property
    def family(self) -> str:
        """The name that all editions of the defense have in common."""
        return self.name if self.edition is None else self.edition.of

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Everything that says what it does, as JSON values.

        Raises:
            UsageError: a setting, or what its code refers to, has no exact form.
        """
        described = _described(self.defense, self.name, self.code)
        if self.edition is None:
            return described
        return {"edition": {site: by_content(source) for site, source in self.edition.saes}, **described}

    @cached_property
    def code(self) -> Files:
        """The sources of its class and of what it is made of."""
        held = classes_in(self.defense)
        recipes = [kind for kind in held if isinstance(kind, type) and issubclass(kind, Defense)]
        return code_of([type(self.defense), *recipes], held)


def resolve_defense(named: str, options: Mapping[str, Any] | None = None) -> Named:
    """A registered name, ``file.py:Class``, a YAML or JSON spec file, or another tool's file that a registered defense
    reads, with settings on top.

    Raises:
        UsageError: it does not exist, or a setting is unknown or of the wrong type.
    """
    options = options or {}
    path = Path(named)
    if path.suffix in (".yaml", ".yml", ".json"):
        return _from_spec(path, options)
    if is_reference(named):
        kind = from_file(named, Defense)
        return Named(checked_name(kind.name, named), build(kind, options, named))  # type: ignore[attr-defined]
    if path.suffix and named not in DEFENSES.names():
        return _from_other_tool(path, options)
    return Named(named, build(DEFENSES.get(named), options, named))


def _from_other_tool(path: Path, options: Mapping[str, Any]) -> Named:
    """The registered defense that reads such files, called after the file."""
    known: list[type[Defense]] = [DEFENSES.get(name) for name in DEFENSES.names()]
    readers = [kind for kind in known if path.suffix in kind.reads]
    if not readers:
        DEFENSES.get(str(path))  # which says what there is
    settings = {**readers[0].read_settings(path), **by_field(options, "options")}
    return Named(checked_name(path.stem, str(path)), build(readers[0], settings, str(path)))


def resolve_attack(named: str, options: Mapping[str, Any] | None = None, where: str = "") -> Attack:
    """A registered attack with settings on top; ``where`` it was asked for.

    Raises:
        UsageError: it, or its threat model, does not exist, or a setting is unknown or of the wrong type.
    """
    kind = from_file(named, Attack) if is_reference(named) else ATTACKS.get(named)
    attack: Attack = build(kind, options or {}, where or f"attack {named}")
    THREATS.get(attack.threat_model)
    return attack


def resolve_task(named: str, options: Mapping[str, Any] | None = None) -> Task:
    """A registered kind of task, or ``file.py:Class``, with settings.

    Raises:
        UsageError: it does not exist, or a setting is unknown or of the wrong type.
    """
    kind = from_file(named, Task) if is_reference(named) else TASKS.get(named)
    return build(kind, options or {}, f"task {named}")


def _from_spec(path: Path, options: Mapping[str, Any]) -> Named:
    """Spec: ``defense`` (what it is), ``name`` (what it is called), and the defense's settings beside them."""
    if not is_file(path):
        raise UsageError(f"there is no spec file {str(path)!r}; give the path of one, or a registered name")
    document = read(path)
    spec = document.value
    if not isinstance(spec, dict) or not isinstance(spec.get("defense"), str):
        known = ", ".join(DEFENSES.names())
        raise UsageError(f"{path}: a spec is a mapping with `defense: NAME` and its settings; defenses: {known}")
    what = spec.pop("defense")
    kind = from_file(str(path.parent / what), Defense) if is_reference(what) else DEFENSES.get(what)
    name = checked_name(spec.pop("name", path.stem), f"{path}: name")
    _anchor_paths(spec, path.parent)
    merged = {**by_field(spec, str(path)), **by_field(options, "options")}
    return Named(name, build(kind, merged, str(path), document))


def _anchor_paths(value: Any, folder: Path) -> None:
    """Local SAE folders of a spec are relative to the spec."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _anchor_paths(item, folder)
    if isinstance(value, dict) and isinstance(value.get("sae"), str) and _is_folder(folder, value["sae"]):
        value["sae"] = str(folder / value["sae"])


def _is_folder(folder: Path, text: str) -> bool:
    try:
        return bool(text.strip()) and (folder / text).is_dir()
    except (OSError, ValueError):
        return False


def by_field(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings by the names of their fields, in which a hyphen is an underscore.

    Raises:
        UsageError: a setting is there with both.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        field = name.replace("-", "_")
        if field in found:
            raise UsageError(f"{where}: {name!r} and another spelling of it are both there; leave one out")
        found[field] = value
    return found


def build(kind: type, options: Mapping[str, Any], where: str, document: Document | None = None) -> Any:
    """An object of a class from plain values, every error named; ``document`` knows in which line each stands.

    Raises:
        UsageError: the class cannot be made, a setting is unknown, or a value is not of the field's type and range:
            nothing is converted but whole numbers to others, and lists to tuples.
    """
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise UsageError(f"{where}: {kind.__name__} is abstract: it lacks {missing}; write them, or name a subclass")
    options = by_field(options, where)
    if not dataclasses.is_dataclass(kind):
        if options:
            raise UsageError(
                f"{where}: {kind.__name__} takes no settings, but got {', '.join(options)}; leave them out"
            )
        return _made(kind, where, kind)
    fields = [f.name for f in dataclasses.fields(kind) if f.init]
    unknown = [name for name in options if name not in fields]
    if unknown:
        raise UsageError(f"{where}: unknown setting {', '.join(unknown)}; {kind.__name__} has: {', '.join(fields)}")
    text, adapter = _plain_values(options, where), _adapter(kind, where)
    try:
        return _made(kind, where, lambda: adapter.validate_json(text))
    except ValidationError as error:
        raise UsageError(f"{where}: {faults(error, document)}") from error


def _plain_values(options: Mapping[str, Any], where: str) -> str:
    """Settings as JSON, which has no types that could be taken for another."""
    for name, value in options.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"{where}: {name} is {shown(value)}, which is no finite number, text, list or mapping of such; write "
                "one, or make the object in Python"
            ) from error
    return json.dumps(options)


def _made(kind: type, where: str, make: Callable[[], Any]) -> Any:
    """What a class makes of its settings, which may raise anything."""
    try:
        return make()
    except ValidationError:
        raise
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:
        remedy = "correct its settings, or the class: it must be made of defaults and plain values"
        raise UsageError(f"{where}: {kind.__name__} cannot be made: {told(error)}; {remedy}") from error


@functools.lru_cache(maxsize=256)
def _reader(kind: type) -> TypeAdapter[Any]:
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return TypeAdapter(with_config(strict)(kind))


def _adapter(kind: type, where: str) -> TypeAdapter[Any]:
    """What reads the settings of a dataclass; a field of a type that is no plain value can be set in Python only."""
    try:
        adapter = _reader(kind)
        if not adapter.pydantic_complete:
            adapter.rebuild(_types_namespace=vars(sys.modules[kind.__module__]))
        return adapter
    except Exception as error:  # annotations of anybody's class
        raise UsageError(
            f"{where}: the types of the fields of {kind.__name__} cannot be read: {told(error)}; import what they name "
            "in its file, outside of TYPE_CHECKING"
        ) from error


def settings(thing: Any) -> dict[str, Any]:
    """The settings of a recipe as JSON values; plain ones build it again.

    Raises:
        UsageError: a setting has no exact form.
    """
    kind = type(thing).__name__
    return {name: exact(value, f"{kind}.{name}", written=True) for name, value in held_by(thing).items()}


def recipe(named: Named) -> dict[str, Any] | None:
    """The spec file that makes a defense, as JSON values: what it is, what it is called, and its settings.

    Returns:
        None: there is none, since it was made in Python, of a class that nobody registered or of what no file can say.
    """
    kind = type(named.defense)
    file = defining_file(kind)
    if file is None and DEFENSES.known.get(getattr(kind, "name", "")) is not kind:
        return None
    what = kind.name if file is None else f"{file}:{kind.__qualname__}"  # type: ignore[attr-defined]
    try:
        return {"defense": what, "name": named.family, **settings(named.defense)}
    except UsageError:
        return None


def _described(value: Any, where: str, code: Files | None = None) -> Any:
    """The same with the class of every recipe in it and its code, the outermost too: two that are equal do the same."""
    if isinstance(value, list | tuple):
        return [_described(part, f"{where}.{i}") for i, part in enumerate(value)]
    if isinstance(value, Defense):
        held = {name: _described(part, f"{where}.{name}") for name, part in held_by(value, where).items()}
        found = Named(where, value).code if code is None else code
        return {"defense": type(value).__qualname__, "code": summary(found), **held}
    return exact(value, where)
