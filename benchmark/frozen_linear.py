"""Multiplication by frozen weights on a CPU, forward and backward.

The general matrix product copies a weight into blocks whenever it meets it; with few rows that takes as long as the
product. Blocked kernels copy less of it, or only the rows. No copy is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias``: (..., d_in) -> (..., d_out)."""
    rows = x.reshape(-1, x.shape[-1])
    if not weight.is_contiguous():  # stored as (d_in, d_out)
        return _product(rows, weight, bias).view(*x.shape[:-1], -1)
    # the second factor is the one that is copied into blocks: let that be the rows
    product = _product(weight, rows, None).T.contiguous()
    return (product if bias is None else product.add_(bias)).view(*x.shape[:-1], -1)


def _product(x: Tensor, y: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ y.T + bias`` of two matrices."""
    return torch.ops.mkldnn._linear_pointwise(x, y, bias, "none", [], "")


# An operation of its own, so that it can differ for a batch of gradients (``is_grads_batched``): the ordinary product
# takes them at once, the kernel would be called for one after the other.
_LIBRARY = torch.library.Library("recoverybench", "DEF")
_LIBRARY.define("multiply(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
_LIBRARY.impl("multiply", multiply, "CPU")
_LIBRARY.impl("multiply", torch.nn.functional.linear, "Batched")


class FrozenLinear(torch.autograd.Function):
    """``multiply``, differentiable by ``x`` alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return torch.ops.recoverybench.multiply(gradient, weight.T, None), None, None


class FrozenWeights(TorchFunctionMode):
    """Inside the block frozen weights multiply through ``FrozenLinear``, in nn.Linear and in GPT-2's transposed layers.

    Whatever ``FrozenLinear`` is not made for stays as it is: other devices and dtypes, weights that want a gradient.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.linear and not kwargs and serves(*args):
            return FrozenLinear.apply(*args, *[None] * (3 - len(args)))
        if func is torch.addmm and not kwargs and serves(args[1], args[2].T, args[0]):
            return FrozenLinear.apply(args[1], args[2].T, args[0])
        return func(*args, **(kwargs or {}))


def serves(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether ``FrozenLinear`` can take the place of this linear map."""
    frozen = (weight,) if bias is None else (weight, bias)
    return (
        AVAILABLE
        and weight.dim() == 2
        and (bias is None or bias.shape == weight.shape[:1])
        and not any(p.requires_grad for p in frozen)
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, *frozen))
    )
