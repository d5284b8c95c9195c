"""What a cell is made of beside its suite and model: code, settings and content of engine, task, defense and attack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from benchmark.code import Files, classes_in, code_of, engine
from benchmark.contracts.attack import Attack
from benchmark.contracts.example import SPLITS, Example
from benchmark.contracts.protocol import Protocol as Measuring
from benchmark.errors import UsageError
from benchmark.registry import JUDGES, SOURCES, THREATS
from benchmark.run.task_view import TaskView
from benchmark.spec import Named
from benchmark.values import exact, held_by, is_transparent, sha

PARTS = {"task": "tasks", "defense": "defenses", "attack": "attacks"}
"""A part of a cell -> where its inputs are, by name."""


class Planned(Protocol):
    """What is read of a cell."""

    @property
    def attack(self) -> Attack: ...


def parts_of(
    cells: Iterable[Planned], defenses: Mapping[str, Named], tasks: Mapping[str, TaskView], protocol: Measuring
) -> dict[str, Any]:
    """Every part by name, as JSON values: its code (file -> hash), and what else of it changes results.

    Raises:
        UsageError: a setting, or what code refers to, cannot be hashed; or a source cannot be read.
    """
    files = engine()
    read = cache(code_of)
    every = dict.fromkeys(cell.attack for cell in cells)
    attacks = {
        attack_label(attack): {
            "settings": _settings(attack),
            "code": _beyond(files, read(_classes(attack, protocol), tuple(classes_in(attack)))),
        }
        for attack in every
    }
    return {
        "engine": files,
        "measures": exact(vars(protocol), protocol.name),
        "tasks": {name: _task(task, files) for name, task in tasks.items()},
        "defenses": {name: {"spec": d.spec, "code": _beyond(files, d.code)} for name, d in defenses.items()},
        "attacks": attacks,
    }


def attack_label(attack: Attack) -> str:
    """What tells an attack from the others of its plan, and says what it is."""
    access = attack.threat_model if attack.constraint == "none" else f"{attack.threat_model}/{attack.constraint}"
    return f"{attack.title} ({access}, {sha(_settings(attack))[:6]})"


def _settings(attack: Attack) -> list[Any]:
    return [attack.name, exact(attack, attack.name)]


def _classes(attack: Attack, protocol: Measuring) -> tuple[type, ...]:
    """What an attack is made of: itself, what it writes, and how that is measured."""
    return type(attack), THREATS.get(attack.threat_model), type(protocol)


def _task(task: TaskView, files: Files) -> dict[str, Any]:
    content = {split: _contents(task.examples(split)) for split in SPLITS}
    retained = {split: _contents(task.retain(split)) for split in SPLITS}
    held = classes_in(task.task)
    leads = [task.kind, *_named_in(task.task)]
    return {
        "name": task.name,
        "kind": task.kind.__qualname__,
        "version": task.version,
        "examples": {split: [len(hashes), sha(hashes)] for split, hashes in content.items()},
        "retain": {split: [len(hashes), sha(hashes)] for split, hashes in retained.items()},
        "code": _beyond(files, code_of(leads, held)),
    }


def _contents(examples: Sequence[Any]) -> list[str]:
    return [example.content_hash for example in examples]


def _named_in(settings: Any) -> Iterator[Any]:
    """The judges and sources of data that a task's settings name."""
    words = {text.partition(":")[0] for text in _texts(settings, set())}
    for registry in (JUDGES, SOURCES):
        for name in words & {*registry.known, *registry.names()}:
            yield from _registered(registry, name)


def _registered(registry: Any, name: str) -> Iterator[Any]:
    try:
        yield registry.get(name)
    except UsageError:  # what cannot be loaded takes no part: a word that happens to be its name
        return


def _texts(value: Any, seen: set[int]) -> Iterator[str]:
    """The texts in settings."""
    if isinstance(value, str):
        yield value
    if id(value) in seen or isinstance(value, str | Example | type):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        parts: Iterable[Any] = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    else:
        parts = held_by(value).values() if is_transparent(type(value)) else ()
    for part in parts:
        yield from _texts(part, seen)


def _beyond(files: Files, found: Files) -> dict[str, str]:
    """Without the engine's files, which every cell goes through."""
    return {label: digest for label, digest in found.items() if label not in files}
