"""The clamp of SAE latents as an edit of the stream: exact, and of rank k where the error term is kept.

With the error term kept, ``h' = h + (z'_S - z_S) W_dec[S]``: the decoder is affine, so the reconstruction of all other
latents cancels and need not be computed (METHOD section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from benchmark.contracts.defense import Where
from benchmark.sae.dictionary import Dictionary
from benchmark.sae.features import FeatureSet
from defenses.schedule import Positions, Schedule, where_it_acts

Mode = Literal["zero", "set", "set_if_active", "scale"]
"""``zero``: z' = 0. ``set``: z' = level. ``set_if_active``: z' = -level where z > 0. ``scale``: z' = level z."""


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
        changed = (h.float() if self.reconstruction is None else reconstruct(h, self.reconstruction)) + moved
        return where_it_acts(h, changed, where, self.schedule, self.positions)

    def target(self, act: Tensor) -> Tensor:
        """The activations z' that replace ``act`` (..., k)."""
        if self.mode == "zero":
            return torch.zeros_like(act)
        if self.mode == "set":
            return self.level.expand_as(act)
        if self.mode == "scale":
            return self.level * act
        return torch.where(act > 0, -self.level, act)


def reconstruct(h: Tensor, dictionary: Dictionary) -> Tensor:
    """What an SAE makes of the stream ``h`` (..., d_model): the same shape, fp32."""
    features = dictionary.everything
    decoded = dictionary.decode(features.encode(h).act)
    _, scale = features.scaling(h)
    if scale is not None:
        decoded = decoded * scale
    # what the SAE never sees it cannot reconstruct: the mean of a centred stream, or of a layer norm, is kept
    blind = features.scaling.centred or features.scaling.normalize == "layer_norm"
    return decoded + h.float().mean(-1, keepdim=True) if blind else decoded
