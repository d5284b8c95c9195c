"""Edits without a backward of their own: the value is the edit's, the gradient that of the identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.contracts.defense import Edit, Where


@dataclass(frozen=True, eq=False)
class StraightThrough:
    """What a search gets in the place of an edit whose gradient is not to be believed."""

    edit: Edit

    @property
    def position_wise(self) -> bool:
        """As the edit promises."""
        return bool(getattr(self.edit, "position_wise", False))

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        with torch.no_grad():
            moved = self.edit(h, where) - h
        return h + moved


def straight_through(edits: Mapping[int, Edit]) -> dict[int, Edit]:
    """The edits, each without its backward."""
    return {boundary: StraightThrough(edit) for boundary, edit in edits.items()}
