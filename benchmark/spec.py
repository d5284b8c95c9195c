"""Defenses, attacks and tasks as data: what a name, a ``file.py:Class`` or a spec file stands for, and back again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from benchmark.code import Files, classes_in, code_of, summary
from benchmark.contracts.attack import Attack
from benchmark.contracts.defense import Defense
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.registry import ATTACKS, DEFENSES, TASKS, THREATS, from_file
from benchmark.values import exact, held_by


@dataclasses.dataclass(frozen=True)
class Named:
    """A defense with the name it has in the results."""

    name: str
    defense: Defense

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Everything that says what it does, as JSON values.

        Raises:
            UsageError: a setting, or what its code refers to, has no exact form.
        """
        return _described(self.defense, self.name, self.code)

    @cached_property
    def code(self) -> Files:
        """The sources of its class and of what it is made of."""
        held = classes_in(self.defense)
        recipes = [kind for kind in held if isinstance(kind, type) and issubclass(kind, Defense)]
        return code_of([type(self.defense), *recipes], held)


def resolve_defense(named: str, options: Mapping[str, Any] | None = None) -> Named:
    """A registered name, ``file.py:Class``, or a YAML or JSON spec file, with settings on top.

    Raises:
        UsageError: it does not exist, or a setting is unknown or of the wrong type.
    """
    options = dict(options or {})
    path = Path(named)
    if path.suffix in (".yaml", ".yml", ".json"):
        return _from_spec(path, options)
    if ".py:" in named:
        kind = from_file(named, Defense)
        return Named(kind.name, build(kind, options, named))  # type: ignore[attr-defined]
    return Named(named, build(DEFENSES.get(named), options, named))


def resolve_attack(named: str, options: Mapping[str, Any] | None = None) -> Attack:
    """A registered attack with settings on top.

    Raises:
        UsageError: it, or its threat model, does not exist, or a setting is unknown or of the wrong type.
    """
    kind = from_file(named, Attack) if ".py:" in named else ATTACKS.get(named)
    attack: Attack = build(kind, dict(options or {}), named)
    THREATS.get(attack.threat_model)
    return attack


def resolve_task(named: str, options: Mapping[str, Any] | None = None) -> Task:
    """A registered kind of task, or ``file.py:Class``, with settings.

    Raises:
        UsageError: it does not exist, or a setting is unknown or of the wrong type.
    """
    kind = from_file(named, Task) if ".py:" in named else TASKS.get(named)
    return build(kind, dict(options or {}), f"task {named}")


def _from_spec(path: Path, options: dict[str, Any]) -> Named:
    """Spec: ``defense`` (what it is), ``name`` (what it is called), and the defense's settings beside them."""
    if not path.is_file():
        raise UsageError(f"there is no spec file {str(path)!r}")
    try:
        text = path.read_text("utf-8")
        # not every JSON is YAML: that forbids tabs
        spec = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is not valid YAML or JSON: {error}") from error
    if not isinstance(spec, dict) or not isinstance(spec.get("defense"), str):
        known = ", ".join(DEFENSES.names())
        raise UsageError(f"{path}: a spec is a mapping with `defense: NAME` and its settings; defenses: {known}")
    kind = DEFENSES.get(spec.pop("defense"))
    name = spec.pop("name", path.stem)
    _anchor_paths(spec, path.parent)
    return Named(str(name), build(kind, {**spec, **options}, str(path)))


def _anchor_paths(value: Any, folder: Path) -> None:
    """Local SAE folders of a spec are relative to the spec."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _anchor_paths(item, folder)
    if isinstance(value, dict) and isinstance(value.get("sae"), str) and (folder / value["sae"]).is_dir():
        value["sae"] = str(folder / value["sae"])


def build(kind: type, options: Mapping[str, Any], where: str) -> Any:
    """An object of a frozen dataclass from plain values, every error named.

    Raises:
        UsageError: unknown settings or values that do not fit.
    """
    if not dataclasses.is_dataclass(kind):
        if options:
            raise UsageError(f"{where}: {kind.__name__} takes no settings, but got {', '.join(options)}")
        return kind()
    fields = [f.name for f in dataclasses.fields(kind)]
    unknown = [name for name in options if name not in fields]
    if unknown:
        raise UsageError(f"{where}: unknown setting {', '.join(unknown)}; {kind.__name__} has: {', '.join(fields)}")
    try:
        return TypeAdapter(with_config(ConfigDict(extra="forbid"))(kind)).validate_python(dict(options))
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise UsageError(f"{where}: " + "; ".join(lines)) from error


def settings(thing: Any) -> dict[str, Any]:
    """The settings of a recipe as JSON values; plain ones build it again.

    Raises:
        UsageError: a setting has no exact form.
    """
    kind = type(thing).__name__
    return {name: exact(value, f"{kind}.{name}", written=True) for name, value in held_by(thing).items()}


def _described(value: Any, where: str, code: Files | None = None) -> Any:
    """The same with the class of every recipe in it and its code, the outermost too: two that are equal do the same."""
    if isinstance(value, list | tuple):
        return [_described(part, f"{where}.{i}") for i, part in enumerate(value)]
    if isinstance(value, Defense):
        held = {name: _described(part, f"{where}.{name}") for name, part in held_by(value, where).items()}
        found = Named(where, value).code if code is None else code
        return {"defense": type(value).__qualname__, "code": summary(found), **held}
    return exact(value, where)
