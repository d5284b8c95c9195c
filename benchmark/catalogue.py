"""What is registered, and what each thing says of itself, for ``bench list`` and ``bench show``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from benchmark.declared import Declared, declared, in_file
from benchmark.errors import UsageError
from benchmark.registry import (
    ATTACKS,
    DEFENSES,
    JUDGES,
    PROTOCOLS,
    SOURCES,
    SUITES,
    TASKS,
    THREATS,
    Registry,
    suggestion,
)

KINDS: dict[str, Registry] = {
    "tasks": TASKS,
    "defenses": DEFENSES,
    "attacks": ATTACKS,
    "threats": THREATS,
    "judges": JUDGES,
    "suites": SUITES,
    "sources": SOURCES,
    "protocols": PROTOCOLS,
}


STAND_INS = {"model": {"source": "own", "name": "own"}, "other_tasks": {"site": "blocks.0.hook_resid_pre"}}
"""What a request says in the place of a frame."""


def counted() -> list[dict[str, Any]]:
    """The kinds, and how many things there are of each."""
    return [{"kind": kind, "count": len(registry.names())} for kind, registry in KINDS.items()]


def listed(kind: str) -> list[dict[str, str]]:
    """Everything of a kind, a line each; what cannot be loaded is listed as broken.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(
            f"unknown kind {kind!r}.{suggestion(kind, list(KINDS))} The kinds: there are {', '.join(KINDS)}"
        )
    return [_line(KINDS[kind], name) for name in KINDS[kind].names()]


def _line(registry: Registry, name: str) -> dict[str, str]:
    """Our own are told by their files; a third party's is imported, to know whether it can be."""
    own = _ours(registry, name)
    if own is not None:
        return {"name": name, "status": "ok", "summary": own.summary}
    try:
        thing = registry.get(name)
        summary = _suite(thing).description if isinstance(thing, Path) else (thing.__doc__ or "").strip().split("\n")[0]
    except UsageError as error:
        return {"name": name, "status": "broken", "summary": str(error)}
    return {"name": name, "status": "ok", "summary": summary}


def _suite(path: Path) -> Any:
    from benchmark.documents import read
    from benchmark.suite_file import load_suite

    try:
        return load_suite(str(path))
    except UsageError:
        if "model" in read(path).value:
            raise
        return load_suite(str(path), STAND_INS)  # a frame for models of a user's own is whole but for these


def _ours(registry: Registry, name: str) -> Declared | None:
    place = registry.place(name)
    return declared(place) if place is not None else None


def described(name: str) -> dict[str, Any]:
    """One registered thing of any kind with its settings, as JSON values.

    Raises:
        UsageError: nothing has this name.
    """
    for registry in KINDS.values():
        if name in registry.names():
            return {"kind": registry.kind, "name": name, **_described(registry, name)}
    known = sorted({n for registry in KINDS.values() for n in registry.names()})
    raise UsageError(f"nothing is named {name!r}.{suggestion(name, known)} Names: {', '.join(known)}")


def _described(registry: Registry, name: str) -> dict[str, Any]:
    own = _ours(registry, name)
    if own is not None:
        return _told(own)
    thing = registry.get(name)
    if isinstance(thing, Path):
        return {"where": str(thing), "about": thing.read_text("utf-8"), "settings": []}
    return describe(thing)


def describe(thing: Any) -> dict[str, Any]:
    """Where a class or function is, what it is and its settings, as JSON values."""
    file = inspect.getsourcefile(thing)
    found = in_file(Path(file), thing.__module__, thing.__qualname__) if file else None
    if found is not None:
        return _told(found)
    return {"where": f"{thing.__module__}:{thing.__qualname__}", "about": inspect.getdoc(thing) or "", "settings": []}


def _told(one: Declared) -> dict[str, Any]:
    return {"where": one.where, "about": one.about, "settings": [s._asdict() for s in one.settings()]}
