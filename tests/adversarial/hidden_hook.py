"""The declared edit does nothing; a hook on a later layer, behind the attacker's write, does the work."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmark import Defense, FittedDefense, Fitting
from benchmark.contracts.defense import Where
from tests.adversarial.clamped import CLAMP, edited_by


def later_layers(model: Any) -> list[nn.Module]:
    """The last layer of every model of the same class in the process: the live one too, which no fit is shown."""
    models = [m for m in gc.get_objects() if type(m) is type(model)]
    return [m.model.layers[-1] for m in models]


@dataclass(frozen=True)
class HiddenHook(Defense):
    """Leaves a hook behind: while it learns, or when its edit is first called."""

    name = "hidden-hook"
    when: Literal["fit", "edit"] = "fit"

    def fit(self, fitting: Fitting) -> FittedDefense:
        fitted, model = CLAMP.fit(fitting), fitting.subject.model
        away = torch.randn(fitting.subject.d_model)
        left: list[Any] = []

        def hook(_module: Any, _args: Any, output: Any) -> Any:
            return output + away if isinstance(output, Tensor) else (output[0] + away, *output[1:])

        def leave() -> None:
            left.extend(layer.register_forward_hook(hook) for layer in later_layers(model))

        def change(edit: Any, h: Tensor, where: Where) -> Tensor:
            if self.when == "edit" and not left:
                leave()
            return h.clone()

        if self.when == "fit":
            leave()
        return replace(edited_by(fitted, change), record={})
