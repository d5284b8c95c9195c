"""What of a model in half precision is done in single precision all the same.

The layers run in the model's own dtype. Around them nothing does: at a site the stream is widened, written to, edited
and observed, and rounded once behind it; logits are multiplied out in fp32, since bfloat16 knows those around 16 to
1/16 only, which is more than the margin of many a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import UsageError

HALF = (torch.bfloat16, torch.float16)
_ENTRIES = 2**24
"""Weights of an unembedding that are widened at once: 64 MiB, where all of a large vocabulary are gigabytes."""


def widened(x: Tensor) -> Tensor:
    """``x`` in fp32 where it is of half precision."""
    return x.float() if x.dtype in HALF else x


def representable(h: Tensor) -> Tensor:
    """``h`` itself, if nothing of it went beyond what its dtype holds.

    Raises:
        UsageError: it is float16, and infinite or NaN somewhere.
    """
    if h.dtype == torch.float16 and not bool(h.isfinite().all()):
        raise UsageError(
            "the model's stream goes beyond 65,504, the largest number of float16, and nothing read of it means"
            " anything; use --dtype bfloat16, or float32"
        )
    return h


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative difference between two passes of a model in ``dtype`` that are to be the same."""
    return {torch.float64: 1e-6, torch.float32: 1e-3}.get(dtype, 5e-2)  # half precision rounds far more


def agree(dtype: torch.dtype, one: Tensor, other: Tensor) -> bool:
    """Whether what two passes of a model in ``dtype`` gave is the same, but for rounding."""
    return bool((one - other).abs().max() <= tolerance(dtype) * one.abs().max().clamp(min=1e-6))


class _Product(torch.autograd.Function):
    """``hidden @ weight.T`` in fp32; a part of the weights at a time, forward and again backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return torch.cat([hidden @ part.float().T for part in _parts(weight)], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        parts = _parts(weight)
        slopes = gradient.split([len(part) for part in parts], -1)
        return torch.stack([g @ part.float() for g, part in zip(slopes, parts, strict=True)]).sum(0), None


def _parts(weight: Tensor) -> tuple[Tensor, ...]:
    return weight.split(max(1, _ENTRIES // weight.shape[1]))


def logits(head: nn.Module, hidden: Tensor) -> Tensor:
    """What a linear ``head`` of half precision makes of ``hidden`` (..., d_model): (..., vocabulary), fp32.

    Raises:
        UsageError: ``hidden`` is float16 and not finite.
    """
    weight, bias = head.weight, getattr(head, "bias", None)
    assert isinstance(weight, Tensor)
    found = _Product.apply(widened(representable(hidden)), weight)
    return found if bias is None else found + widened(bias)


@contextmanager
def wide_logits(head: nn.Module) -> Iterator[None]:
    """Inside the block a linear ``head`` of half precision gives logits in fp32; what the model does to them after
    (a cap, a scale) is done to those. One of another dtype is left alone."""
    if not isinstance(head, nn.Linear) or head.weight.dtype not in HALF:
        yield
        return

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return logits(module, args[0])

    handle = head.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
