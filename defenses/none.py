"""Control: no defense. Nothing is suppressed, so an evaluation of it must find ``never_suppressed`` everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.registry import register_defense


@register_defense("none")
@dataclass(frozen=True)
class NoDefense(Defense):
    """The undefended model."""

    def fit(self, fitting: Fitting) -> FittedDefense:
        return FittedDefense(edits={}, record={})
