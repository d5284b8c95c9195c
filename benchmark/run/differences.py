"""What differs between the plan that a directory holds and another one, part by part, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.run.parts import PARTS

_SHOWN = 4
"""Files or settings that are named; of more, their number."""


def differences(there: Any, here: Mapping[str, Any]) -> list[str]:
    """Sentences without a period; none where the first plan does not say what it was made of.

    Args:
        there, here: ``inputs`` of two ``plan.json``.
    """
    if not isinstance(there, Mapping):
        return []
    return [
        *_plain(there, here),
        *_code("the benchmark itself", there.get("engine"), here["engine"]),
        *(found for part, group in PARTS.items() for found in _group(part, _mapping(there.get(group)), here[group])),
    ]


def _plain(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for name in ("seed", "dtype", "protocol", "attribution"):
        if there.get(name) != here[name]:
            yield f"the {name} ({there.get(name)} there, {here[name]} here)"
    if there.get("suite") != here["suite"]:
        yield "the suite's content"
    if there.get("model") != here["model"]:
        yield "the model (weights, configuration or tokenizer)"
    others = _changed(_mapping(there.get("saes")), here["saes"])
    if others:
        yield f"the suite's SAEs ({_few(others)})"
    if there.get("measures") != here["measures"]:
        yield "the protocol's settings"


def _group(part: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Tasks, defenses or attacks, by name."""
    for name in sorted({*there, *here}):
        if name not in here:
            yield f"the {part} {name} is only there"
        elif name not in there:
            yield f"the {part} {name} is only here"
        elif there[name] != here[name]:
            yield from _one(f"the {part} {name}", _mapping(there[name]), here[name])


def _one(what: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    yield from _code(what, there.get("code"), here["code"])
    for sets in ("examples", "retain"):
        yield from _examples(what, sets, _mapping(there.get(sets)), _mapping(here.get(sets)))
    spec, mine = _without_code(there.get("spec")), _without_code(here.get("spec"))
    if spec != mine:
        yield f"the settings of {what} ({_few(_changed(_mapping(spec), _mapping(mine)))})"
    rest = {"code", "examples", "retain", "spec"}
    others = [name for name in _changed(there, here) if name not in rest]
    if others:
        yield f"{_few(others)} of {what}"


def _examples(what: str, sets: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    kind = "examples" if sets == "examples" else "retain examples"
    for split in _changed(there, here):
        then, now = (_mapping({0: found}).get(0) or [0, ""] for found in (there.get(split), here.get(split)))
        number = f"{then[0]} there, {now[0]} here: the limit" if then[0] != now[0] else "other content"
        yield f"the {split} {kind} of {what} ({number})"


def _code(what: str, there: Any, here: Mapping[str, str]) -> Iterator[str]:
    files = _changed(_mapping(there), here)
    if files:
        yield f"the code of {what} ({_few(files)})"


def _changed(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return sorted(str(name) for name in {*there, *here} if there.get(name) != here.get(name))


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _mapping(value: Any) -> Mapping[Any, Any]:
    """What a damaged or older file may not have."""
    return value if isinstance(value, Mapping) else {}


def _without_code(spec: Any) -> Any:
    """Settings without the hashes of code in them, which is told by file."""
    if isinstance(spec, Mapping):
        return {name: _without_code(part) for name, part in spec.items() if name != "code"}
    return [_without_code(part) for part in spec] if isinstance(spec, list) else spec
