"""The clamp of SAE latents as an edit of the stream: exact, and of rank k where the error term is kept.

With the error term kept, ``h' = h + (z'_S - z_S) W_dec[S]``: the decoder is affine, so the reconstruction of all other
latents cancels and need not be computed (METHOD section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from benchmark.dictionary import Dictionary
from benchmark.edits import Where
from benchmark.errors import UsageError
from benchmark.features import FeatureSet

Mode = Literal["zero", "set", "set_if_active", "scale"]
"""``zero``: z' = 0. ``set``: z' = level. ``set_if_active``: z' = -level where z > 0. ``scale``: z' = level z."""

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
        if kind == "every" and period.isdigit() and int(period) > 0:
            return cls("every", int(period))
        if not period and kind in ("always", "prompt", "generated"):
            return cls(kind)  # type: ignore[arg-type]
        raise UsageError(f"unknown schedule {text!r}; there are always, prompt, generated and every:<n>, n >= 1")

    def acts(self, where: Where) -> Tensor:
        """(rows, position), bool."""
        if self.kind == "every":
            return (where.index % self.period == 0).expand_as(where.special)
        if self.kind == "always":
            return torch.ones_like(where.special)
        return where.generated if self.kind == "generated" else ~where.generated


@dataclass(frozen=True, eq=False)
class ClampEdit:
    """A clamp of the latents of one feature set."""

    features: FeatureSet
    mode: Mode
    level: Tensor
    """(k,): the constant of ``set``, the magnitude of ``set_if_active``, the gain of ``scale``; unused by ``zero``."""
    positions: Positions = "skip_special"
    schedule: Schedule = Schedule()
    reconstruction: Dictionary | None = None
    """Set: the error term is dropped, the stream is replaced by this SAE's clamped reconstruction."""

    position_wise: ClassVar[bool] = True

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        act = self.features.encode(h).act
        moved = self.features.decode_change(h, self.target(act) - act)
        changed = (h.float() if self.reconstruction is None else self._reconstruct(h, self.reconstruction)) + moved
        selected = self.schedule.acts(where)
        if self.positions == "skip_special":
            selected = selected & ~where.special
        return torch.where(selected[..., None], changed.to(h.dtype), h)

    def target(self, act: Tensor) -> Tensor:
        """The activations z' that replace ``act`` (..., k)."""
        if self.mode == "zero":
            return torch.zeros_like(act)
        if self.mode == "set":
            return self.level.expand_as(act)
        if self.mode == "scale":
            return self.level * act
        return torch.where(act > 0, -self.level, act)

    @staticmethod
    def _reconstruct(h: Tensor, dictionary: Dictionary) -> Tensor:
        features = dictionary.everything
        decoded = dictionary.decode(features.encode(h).act)
        _, scale = features.scaling(h)
        if scale is not None:
            decoded = decoded * scale
        # what the SAE never sees it cannot reconstruct: the mean of a centred stream, or of a layer norm, is kept
        blind = features.scaling.centred or features.scaling.normalize == "layer_norm"
        return decoded + h.float().mean(-1, keepdim=True) if blind else decoded
