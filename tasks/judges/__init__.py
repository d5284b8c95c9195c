"""Judges of free text: one function from a text to a label, the same for every arm (METHOD section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.contracts.task import Judge
from benchmark.registry import JUDGES
from benchmark.spec import build


def named_judge(name: str, settings: Mapping[str, Any] | None = None) -> Judge:
    """A registered judge with settings on top.

    Raises:
        UsageError: it does not exist, or a setting is unknown or does not fit.
    """
    return build(JUDGES.get(name), dict(settings or {}), f"judge {name}")
