"""At which positions an edit acts: intermittent schedules, and special tokens that are spared.

``Scheduled`` makes an edit of any change of single positions, so that no defense writes its own masks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from benchmark.contracts.defense import Where
from benchmark.errors import UsageError

Positions = Literal["all", "skip_special"]


@dataclass(frozen=True)
class Schedule:
    """At which positions an intermittent intervention acts."""

    kind: Literal["always", "prompt", "generated", "every"] = "always"
    period: int = 1

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read ``always``, ``prompt``, ``generated`` or ``every:n``.

        Raises:
            UsageError: anything else.
        """
        kind, _, period = text.partition(":")
        if kind == "every" and re.fullmatch(r"[1-9][0-9]{0,8}", period):
            return cls("every", int(period))
        if text == kind and kind in ("always", "prompt", "generated"):
            return cls(kind)  # type: ignore[arg-type]
        raise UsageError(f"unknown schedule {text!r}; there are always, prompt, generated and every:<n>, n >= 1")

    def acts(self, where: Where) -> Tensor:
        """(rows, position), bool."""
        if self.kind == "every":
            return (where.index % self.period == 0).expand_as(where.special)
        if self.kind == "always":
            return torch.ones_like(where.special)
        return where.generated if self.kind == "generated" else ~where.generated


def where_it_acts(h: Tensor, changed: Tensor, where: Where, schedule: Schedule, positions: Positions) -> Tensor:
    """``changed`` where an edit acts and ``h`` elsewhere, both (rows, position, d_model); dtype of ``h``."""
    selected = schedule.acts(where)
    if positions == "skip_special":
        selected = selected & ~where.special
    return torch.where(selected[..., None], changed.to(h.dtype), h)


@dataclass(frozen=True, eq=False)
class Scheduled:
    """A change of single positions as an edit."""

    change: Callable[[Tensor], Tensor]
    """(..., d_model) -> the same shape, fp32; what it makes of a position depends on that position only."""
    schedule: Schedule = Schedule()
    positions: Positions = "skip_special"

    position_wise: ClassVar[bool] = True

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        return where_it_acts(h, self.change(h.float()), where, self.schedule, self.positions)
