"""What frozen layers compute on a CPU, forward and backward, by faster kernels.

The general matrix product copies a weight into blocks whenever it meets it; with few rows that takes as long as the
product. A frozen weight is copied once for each direction, as long as there is room, and after that only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor  # pyright: ignore[reportAttributeAccessIssue]
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu, linear
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
ROOM = 1 << 30
"""Bytes that the copies of one model's weights may take."""


class FrozenLayers:
    """Inside the block ``layers`` compute the same, faster: nn.Linear, GPT-2's Conv1D and its activation.

    Whatever the kernels are not made for stays as it is: other devices and dtypes, weights that want a gradient.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        shelf = Shelf()
        modules = [module for layer in layers for module in layer.modules() if type(module) in _FORWARD]
        # one that was given a forward of its own, as device maps do, keeps it
        self.forwards = [(m, partial(_FORWARD[type(m)], m, shelf)) for m in modules if "forward" not in vars(m)]

    def __enter__(self) -> None:
        for module, forward in self.forwards:  # past nn.Module's own bookkeeping, which takes longer
            module.__dict__["forward"] = forward

    def __exit__(self, *_: object) -> None:
        for module, _forward in self.forwards:
            module.__dict__.pop("forward", None)


class Shelf:
    """Blocked copies of weights, made when they are first asked for and remade if the weight changed."""

    def __init__(self) -> None:
        self.copies: dict[tuple[int, tuple[int, ...], tuple[int, ...]], tuple[Tensor, int, Tensor]] = {}
        """Address and layout of a weight -> the weight, kept so that no other comes to lie there; its version; copy."""
        self.room = ROOM

    def __call__(self, weight: Tensor) -> Tensor | None:
        """The copy of a ``weight`` (d_out, d_in), None where there is no room for it."""
        key = weight.data_ptr(), weight.shape, weight.stride()
        _held, version, copy = self.copies.get(key, (None, None, None))
        if version == weight._version:
            return copy
        if version is None:
            if weight.nbytes > self.room:
                return None
            self.room -= weight.nbytes
        copy = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.copies[key] = weight, weight._version, copy
        return copy


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None, shelf: Shelf) -> Tensor:
    """``x @ weight.T + bias``: (..., d_in) -> (..., d_out)."""
    copy = shelf(weight)
    if copy is not None:
        return _product(x, copy, bias)
    rows = x.reshape(-1, x.shape[-1])
    if not weight.is_contiguous():  # stored as (d_in, d_out)
        return _product(rows, weight, bias).view(*x.shape[:-1], -1)
    # the second factor is the one that is copied into blocks: let that be the rows
    product = _product(weight, rows, None).T.contiguous()
    return (product if bias is None else product.add_(bias)).view(*x.shape[:-1], -1)


def _product(x: Tensor, y: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ y.T + bias``."""
    return torch.ops.mkldnn._linear_pointwise(x, y, bias, "none", [], "")


class FrozenLinear(torch.autograd.Function):
    """``multiply``, differentiable by ``x`` alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, shelf: Shelf) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shelf = shelf
        return multiply(x, weight, bias, shelf)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        if is_legacy_batchedtensor(gradient):
            # a batch of gradients (``is_grads_batched``): the kernel would be called for one after the other
            return linear(gradient, weight.T), None, None, None
        return multiply(gradient, weight.T, None, ctx.shelf), None, None, None


def _linear(module: nn.Linear, shelf: Shelf, x: Tensor) -> Tensor:
    if serves(x, module.weight, module.bias):
        return FrozenLinear.apply(x, module.weight, module.bias, shelf)  # pyright: ignore[reportReturnType]
    return nn.Linear.forward(module, x)


def _conv1d(module: Conv1D, shelf: Shelf, x: Tensor) -> Tensor:
    if serves(x, module.weight.T, module.bias):
        return FrozenLinear.apply(x, module.weight.T, module.bias, shelf)  # pyright: ignore[reportReturnType]
    return Conv1D.forward(module, x)


def _gelu(module: NewGELUActivation, _shelf: Shelf, x: Tensor) -> Tensor:
    return gelu(x, approximate="tanh") if serves(x) else NewGELUActivation.forward(module, x)


_FORWARD: dict[type, Callable[..., Tensor]] = {nn.Linear: _linear, Conv1D: _conv1d, NewGELUActivation: _gelu}


def serves(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> bool:
    """Whether the kernels can take the place of this linear map, or of something elementwise."""
    frozen = [t for t in (weight, bias) if t is not None]
    return (
        AVAILABLE
        and (weight is None or weight.dim() == 2 and (bias is None or bias.shape == weight.shape[:1]))
        and not any(p.requires_grad or p.is_inference() for p in frozen)
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, *frozen))
    )
