"""What is registered, for ``bench list`` and ``bench show``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.documentation import describe_class
from benchmark.errors import UsageError
from benchmark.registry import ATTACKS, DEFENSES, JUDGES, SUITES, TASKS, Registry, suggestion

KINDS: dict[str, Registry] = {
    "tasks": TASKS,
    "defenses": DEFENSES,
    "attacks": ATTACKS,
    "judges": JUDGES,
    "suites": SUITES,
}


def listed(kind: str) -> list[dict[str, str]]:
    """Everything of a kind, a line each; what cannot be loaded is listed as broken.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")
    return [_line(KINDS[kind], name) for name in KINDS[kind].names()]


def _line(registry: Registry, name: str) -> dict[str, str]:
    try:
        thing = registry.get(name)
    except UsageError as error:
        return {"name": name, "status": "broken", "summary": str(error)}
    if isinstance(thing, Path):
        from benchmark.suite import load_suite

        return {"name": name, "status": "ok", "summary": load_suite(name).description}
    return {"name": name, "status": "ok", "summary": (thing.__doc__ or "").strip().split("\n")[0]}


def shown(name: str) -> dict[str, Any]:
    """One registered thing of any kind with its settings, as JSON values.

    Raises:
        UsageError: nothing has this name.
    """
    for registry in KINDS.values():
        if name not in registry.names():
            continue
        thing, found = registry.get(name), {"kind": registry.kind, "name": name}
        if isinstance(thing, Path):
            return {**found, "where": str(thing), "about": thing.read_text(), "settings": []}
        return {**found, **describe_class(thing)}
    known = sorted({n for registry in KINDS.values() for n in registry.names()})
    raise UsageError(f"nothing is named {name!r}.{suggestion(name, known)} Names: {', '.join(known)}")
