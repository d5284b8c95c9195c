"""A recovery of a few steps, where it matters that a suite runs and not how well."""

from __future__ import annotations

from dataclasses import dataclass

from attacks.minimum_norm import MinimumNorm
from attacks.recovery import Recovery
from benchmark.registry import register_attack


@register_attack("brief")
@dataclass(frozen=True)
class Brief(Recovery):
    """``recovery`` behind the edit."""

    threat_model: str = "after_edit"
    restarts: int = 1
    search: MinimumNorm = MinimumNorm(steps=4)
