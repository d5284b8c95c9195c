"""The one form that every layout is read into, and what has to hold of it whatever it was read from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from benchmark.errors import UsageError

Architecture = Literal["standard", "jumprelu", "topk", "gated"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
Norm = Literal["none", "layer_norm", "constant_norm_rescale"]
NORMS: tuple[Norm, ...] = get_args(Norm)


@dataclass(frozen=True)
class Declared:
    """What is said of an SAE by those who made it; None: nothing."""

    hook: str | None = None
    """Where it was trained, in the names of TransformerLens; another name is no residual stream."""
    model: str | None = None
    prepend_bos: bool | None = None
    """Its training texts began with BOS."""
    l0: float | None = None
    """Mean number of active latents of a token."""
    explained_variance: float | None = None


@dataclass(frozen=True, eq=False)
class Sae:
    """``pre = (n(x) - b_dec if apply_b_dec_to_input else n(x)) @ W_enc + b_enc``, ``n`` what ``centred`` and
    ``normalize`` say; decoded ``act @ W_dec + b_dec``, and ``n`` undone. All fp32, on the CPU.

    standard: ``relu(pre)``. jumprelu: ``relu(pre)`` where ``pre > threshold``. topk: ``relu`` of the ``k`` largest.
    gated: ``relu((pre - b_enc) * exp(r_mag) + b_mag)`` where ``pre > 0``.
    """

    architecture: Architecture
    W_enc: Tensor
    """(d_model, width)."""
    W_dec: Tensor
    """(width, d_model)."""
    b_enc: Tensor
    """(width,); of a gated SAE the gate's."""
    b_dec: Tensor
    """(d_model,)."""
    threshold: Tensor | None = None
    """(width,); of a jumprelu SAE."""
    k: int | None = None
    """Of a topk SAE."""
    r_mag: Tensor | None = None
    b_mag: Tensor | None = None
    """(width,); of a gated SAE."""
    apply_b_dec_to_input: bool = False
    centred: bool = False
    """It sees h - mean(h): trained on centred writing weights."""
    normalize: Norm = "none"
    """A norm of each token's own; constant factors are folded into the tensors."""
    declared: Declared = Declared()

    @property
    def d_model(self) -> int:
        return self.W_dec.shape[1]

    @property
    def width(self) -> int:
        return self.W_dec.shape[0]


def checked(sae: Sae, where: object) -> Sae:
    """The SAE itself, if its parts fit each other.

    Raises:
        UsageError: a tensor has another shape or holds NaN or infinity, or ``k`` or ``threshold`` is missing.
    """
    wrong = list(_misfits(sae))
    if wrong:
        raise UsageError(f"the SAE {where} is not what its layout says: {'; '.join(wrong)}; copy or convert it again")
    return sae


def _misfits(sae: Sae) -> Iterator[str]:
    if sae.W_dec.dim() != 2:
        yield f"W_dec is {tuple(sae.W_dec.shape)}, no matrix of latents times the model's width"
        return
    width, d_model = sae.W_dec.shape
    shapes = {"W_enc": (d_model, width), "b_enc": (width,), "b_dec": (d_model,), "threshold": (width,)}
    shapes |= {"r_mag": (width,), "b_mag": (width,)}
    for name in ("W_dec", *shapes):
        tensor = getattr(sae, name)
        if tensor is None:
            continue
        if name in shapes and tuple(tensor.shape) != shapes[name]:
            what = f"{name} is {tuple(tensor.shape)}, beside W_dec {(width, d_model)} it has to be {shapes[name]}"
            turned = name == "W_enc" and tuple(tensor.shape) == (width, d_model)
            yield what + (": it is transposed" if turned else "")
        elif not bool(torch.isfinite(tensor).all()):
            yield f"it holds NaN or infinity in {name}"
    if not width:
        yield "it has no latents"
    if (sae.architecture == "topk") != (sae.k is not None):
        yield f"a {sae.architecture} SAE with k = {sae.k}"
    elif sae.k is not None and not 1 <= sae.k <= width:
        yield f"k is {sae.k}, of {width} latents"
    for kind, name in (("jumprelu", "threshold"), ("gated", "r_mag"), ("gated", "b_mag")):
        if (sae.architecture == kind) != (getattr(sae, name) is not None):
            yield f"a {sae.architecture} SAE {'with' if getattr(sae, name) is not None else 'without'} {name}"
