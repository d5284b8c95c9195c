"""How an entry's defense is attacked with something that is not of its suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leaderboard.bundle.layout import SPEC
from leaderboard.bundle.reading import Bundle


def asked(
    bundle: Bundle, attack: str, settings: Mapping[str, Any], tasks: Sequence[str] | None, device: str
) -> dict[str, Any]:
    """Fields of the request, which has what the entry's run had.

    Args:
        attack: a registered name, or ``file.py:Class``.
        settings: of it, on top of the suite's.
        tasks: of the suite; None: all.
    """
    manifest = bundle.run.manifest
    fields: dict[str, Any] = {
        "defense": [str((bundle.root / SPEC).resolve())],
        "suite": manifest.suite.name,
        "tasks": None if tasks is None else list(tasks),
        "attacks": [attack],
        "attack_settings": dict(settings),
        "seed": manifest.seed,
        "dtype": manifest.dtype,
        "device": device,
        "controls": False,
        "utility": False,
    }
    return {name: value for name, value in fields.items() if value is not None}
