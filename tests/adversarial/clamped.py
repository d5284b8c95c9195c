"""What the defenses here have in common: they contain the shipped clamp, and a way to make it look better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from benchmark import FittedDefense
from benchmark.contracts.defense import Edit, Where
from defenses.sae_clamp import SaeClamp

CLAMP = SaeClamp(count=12, rate_ratio=1.25, strength=1.0)
"""The shipped clamp with all given that it would calibrate, which takes longer than everything that is tried on it."""


def edited_by(fitted: FittedDefense, change: Callable[[Edit, Tensor, Where], Tensor]) -> FittedDefense:
    """The same with each edit called through ``change(edit, h, where)``."""

    def through(edit: Edit) -> Edit:
        return lambda h, where: change(edit, h, where)

    return replace(fitted, edits={site: through(edit) for site, edit in fitted.edits.items()})
