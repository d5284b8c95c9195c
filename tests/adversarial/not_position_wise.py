"""Says that it is position-wise, and looks at the positions before."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from benchmark import Defense, FittedDefense, Fitting
from benchmark.contracts.defense import Edit, Where
from tests.adversarial.clamped import CLAMP


class Backward:
    """The clamp, and a tenth of what it did at the position before."""

    position_wise = True

    def __init__(self, edit: Edit) -> None:
        self.edit = edit

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        changed = self.edit(h, where)
        return changed + 0.1 * (changed - h).roll(1, dims=1)


@dataclass(frozen=True)
class NotPositionWise(Defense):
    """A false declaration."""

    name = "not-position-wise"

    def fit(self, fitting: Fitting) -> FittedDefense:
        fitted = CLAMP.fit(fitting)
        return replace(fitted, edits={site: Backward(edit) for site, edit in fitted.edits.items()})
