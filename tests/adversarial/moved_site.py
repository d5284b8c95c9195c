"""Cheats: an edit that does nothing is declared at the embeddings, so that whoever writes at the defended sites writes
there too, where a budget of the stream's size is noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from benchmark.contracts.defense import Defense, FittedDefense, Fitting, Where
from benchmark.sites import Site
from tests.adversarial.clamped import CLAMP


class Nothing:
    """An edit that changes nothing."""

    position_wise: ClassVar[bool] = True

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        return h.clone()


@dataclass(frozen=True)
class MovedSite(Defense):
    """The shipped clamp, and a lure."""

    name = "moved-site"

    def fit(self, fitting: Fitting) -> FittedDefense:
        fitted = CLAMP.fit(fitting)
        return replace(fitted, edits={Site(0): Nothing(), **fitted.edits})
