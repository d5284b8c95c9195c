"""Our own: a name that hides a built-in one in a module of the engine, and a gradient that a parameter keeps."""

from __future__ import annotations

from dataclasses import dataclass

import benchmark.measure.outcome as outcome
from benchmark import Defense, FittedDefense, Fitting
from tests.adversarial.clamped import CLAMP


@dataclass(frozen=True)
class QuietBuiltin(Defense):
    """``min`` of the module that finds the smallest recovering budget is another one from now on."""

    name = "quiet-builtin"

    def fit(self, fitting: Fitting) -> FittedDefense:
        fitted = CLAMP.fit(fitting)
        outcome.min = max  # type: ignore[attr-defined]
        next(iter(fitting.subject.model.parameters())).requires_grad_(True)
        return fitted
