"""Layers of a model with their matrices laid out as the processor multiplies them.

A step over few rows mostly reads weights, and torch's linear layers lay a matrix out anew at every call. Here that is
done once a model, for the product and for its gradient, by oneDNN's own packing. What comes out is the same to
rounding; the live model, which every clean pass runs, is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

MOST = 2**32
"""Bytes of packed matrices at most: two copies beside the model's own must not be what fills a laptop's memory."""
LEAST = 2**16
"""Numbers of a matrix at least: a smaller one stays in the processor's cache, and is read from there as it is."""
_PACKED: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()
"""Layer -> what its weights were, and the packed one."""


def packed(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """The same layers, packed where they can be: on a CPU in single precision, frozen, and small enough together."""
    live = list(layers)
    return [_of(layer) for layer in live] if _served(live) else live


def _served(layers: list[nn.Module]) -> bool:
    weights: list[Tensor] = [m.weight for layer in layers for m in layer.modules() if _is_linear(m)]  # pyright: ignore[reportAssignmentType]
    if not torch.backends.mkldnn.is_available() or not weights:
        return False
    plain = all(w.device.type == "cpu" and w.dtype == torch.float32 and not w.requires_grad for w in weights)
    return plain and 2 * sum(w.nbytes for w in weights) <= MOST


def _is_linear(module: Any) -> bool:
    return type(module) in (nn.Linear, Conv1D) and module.weight.numel() >= LEAST


def _of(layer: nn.Module) -> nn.Module:
    """Made once; again where a weight was written to since."""
    state = [(p.data_ptr(), p._version) for p in layer.parameters()]
    known = _PACKED.get(layer)
    if known is None or known[0] != state:
        known = _PACKED[layer] = state, _made(layer)
    return known[1]


def _made(layer: nn.Module) -> nn.Module:
    shared = [*layer.parameters(), *layer.buffers()]
    shared += [v for m in layer.modules() for v in vars(m).values() if isinstance(v, PretrainedConfig)]
    copy = deepcopy(layer, {id(one): one for one in shared})
    for name, module in list(copy.named_modules()):
        if _is_linear(module):
            owner, _, own = name.rpartition(".")
            setattr(copy.get_submodule(owner), own, _Packed(module))
    return copy


class _Packed(nn.Module):
    """A linear layer."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        weight = plain.weight if isinstance(plain, nn.Linear) else plain.weight.T
        self.bias = plain.bias
        reorder = torch.ops.mkldnn._reorder_linear_weight
        self.ahead, self.back = (reorder(w.detach().contiguous(), None) for w in (weight, weight.T))

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self.ahead, self.back, self.bias)


class _Product(torch.autograd.Function):
    """``x @ weight.T + bias``, differentiable by ``x`` alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ahead: Tensor, back: Tensor, bias: Tensor | None) -> Tensor:
        ctx.back = back
        return torch.ops.mkldnn._linear_pointwise(x, ahead, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.ops.mkldnn._linear_pointwise(grad.contiguous(), ctx.back, None, "none", [], ""), None, None, None
