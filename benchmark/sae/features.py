"""Some latents of an SAE: what a defense protects and what drift is measured on.

Only the ``k`` encoder columns and decoder rows of the latents are held where the architecture allows it, so that cost
does not grow with the SAE's width. All arithmetic is fp32, whatever the model runs in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.contracts.defense import Codes
from benchmark.errors import UsageError
from benchmark.sites import Site


@dataclass(frozen=True)
class InputScaling:
    """What an SAE does to the stream before its encoder, from its configuration."""

    centred: bool = False
    """Trained on centred writing weights: sees h - mean(h)."""
    normalize: str = "none"
    """none | layer_norm | constant_norm_rescale."""

    @property
    def affine(self) -> bool:
        """Pre-activations are affine in the stream."""
        return self.normalize == "none"

    def __call__(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """The encoder's input, and the factor (..., 1) that a decoded change is multiplied with; None is 1."""
        x = h.float()
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        if self.normalize == "layer_norm":
            scale = x.std(-1, keepdim=True)  # sae_lens: unbiased, with an epsilon on the way in only
            return (x - x.mean(-1, keepdim=True)) / (scale + 1e-5), scale
        if self.normalize == "constant_norm_rescale":
            scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
            return x / scale, scale
        return x, None


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """``k`` latents of one SAE at one site.

    A latent's pre-activation is ``x @ encoder + bias``; a gated SAE has a second, the magnitude, along the same
    directions, and is active where both are positive: its ``pre`` is the smaller of the two.
    """

    site: Site
    latents: tuple[int, ...]
    encoder: Tensor
    """(d_model, k)."""
    bias: Tensor
    """(k,), with the SAE's b_dec already taken in."""
    threshold: Tensor
    """(k,)."""
    decoder: Tensor
    """(k, d_model)."""
    scaling: InputScaling = InputScaling()
    magnitude: tuple[Tensor, Tensor] | None = None
    """Gated SAEs: gain (k,) and bias (k,) of the magnitude path."""
    winners: int | None = None
    """TopK SAEs: how many of these latents, which are all of the SAE, are active at most."""
    joint: Callable[[Tensor], Codes] | None = None
    """Some latents of a TopK SAE, which compete with others: stream -> codes of these."""

    def __len__(self) -> int:
        return len(self.latents)

    def encode(self, h: Tensor) -> Codes:
        """Latents of the stream ``h`` (..., d_model); differentiable."""
        if self.joint is not None:
            return self.joint(h)
        x, _ = self.scaling(h)
        pre = x @ self.encoder + self.bias
        if self.magnitude is not None:
            return self._gated(x, pre, *self.magnitude)
        threshold = self.threshold.expand_as(pre) if self.winners is None else _to_beat(pre, self.winners)
        return Codes(pre, pre.relu() * (pre > threshold), threshold)

    def _gated(self, x: Tensor, gate: Tensor, gain: Tensor, bias: Tensor) -> Codes:
        size = (x @ self.encoder) * gain + bias
        return Codes(torch.minimum(gate, size), (gate > 0) * size.relu(), torch.zeros_like(gate))

    def decode_change(self, h: Tensor, change: Tensor) -> Tensor:
        """What a change of the activations (..., k) adds to the stream ``h``: (..., d_model), fp32."""
        _, scale = self.scaling(h)
        moved = change @ self.decoder
        return moved if scale is None else moved * scale

    def directions(self) -> Tensor:
        """The directions (d_model, k) of the stream that pre-activations depend on, fp64.

        Raises:
            UsageError: the SAE normalises its input, so that no fixed subspace leaves its latents alone.
        """
        if not self.scaling.affine:
            raise UsageError(
                f"the SAE at {self.site} normalises its input ({self.scaling.normalize}): its pre-activations are not "
                f"affine in the stream and have no fixed null space; use --constraint none"
            )
        columns = self.encoder.double()
        return columns - columns.mean(0, keepdim=True) if self.scaling.centred else columns

    def subset(self, keep: list[int]) -> FeatureSet:
        """The latents at the places ``keep`` of this set."""
        index = torch.tensor(keep, device=self.encoder.device)
        magnitude = None if self.magnitude is None else (self.magnitude[0][index], self.magnitude[1][index])

        def part(h: Tensor) -> Codes:
            return Codes(*(code[..., index] for code in self.encode(h)))

        return FeatureSet(
            self.site,
            tuple(self.latents[i] for i in keep),
            self.encoder[:, index],
            self.bias[index],
            self.threshold[index],
            self.decoder[index],
            self.scaling,
            magnitude,
            joint=part if self.winners is not None or self.joint is not None else None,
        )


def _to_beat(pre: Tensor, winners: int) -> Tensor:
    """What each pre-activation must exceed to be among the ``winners`` largest and positive: that place's, or 0."""
    if winners >= pre.shape[-1]:
        return torch.zeros_like(pre)
    last_in, first_out = pre.detach().topk(winners + 1).values[..., -2:].split(1, -1)
    return torch.where(pre >= last_in, first_out, last_in).clamp(min=0)
