"""Changes the weights instead of declaring an edit: while it learns, or when its edit is first called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from benchmark import Defense, FittedDefense, Fitting
from benchmark.contracts.defense import Where
from tests.adversarial.clamped import CLAMP, edited_by


@dataclass(frozen=True)
class ChangedWeights(Defense):
    """One weight of the last layer is doubled."""

    name = "changed-weights"
    when: Literal["fit", "edit"] = "fit"

    def fit(self, fitting: Fitting) -> FittedDefense:
        weight = list(fitting.subject.model.parameters())[-2]
        done: list[int] = []

        @torch.no_grad()
        def double() -> None:
            done.append(1)
            weight.data.mul_(2.0)

        def change(edit: Any, h: Tensor, where: Where) -> Tensor:
            if self.when == "edit" and not done:
                double()
            return edit(h, where)

        fitted = edited_by(CLAMP.fit(fitting), change)
        if self.when == "fit":
            double()
        return fitted
