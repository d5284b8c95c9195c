"""Attention to a recorded prefix and to the columns behind it, without joining the two."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._pytree import tree_map_only


class Joined:
    """Keys, or values, of a prefix (rows, heads, prefix, d_head) and of the tail behind it, in place of one tensor.

    On a GPU, or of fp32, attention takes the two as they are: copying the prefix at every step, and forming the
    gradient that nobody asks for, would take longer than the attention itself. Whatever else looks gets them joined.
    """

    def __init__(self, prefix: Tensor, tail: Tensor, absent: Tensor | None = None) -> None:
        """``absent`` (rows, prefix) bool: columns that are not there, and that no mask hides."""
        self.prefix, self.tail, self.absent = prefix, tail, absent

    @cached_property
    def whole(self) -> Tensor:
        """The two as one tensor.

        Raises:
            TypeError: some columns are absent, which a tensor cannot say.
        """
        if self.absent is not None:
            raise TypeError("a prefix with absent columns is no tensor")
        return torch.cat([self.prefix, self.tail], 2)

    @property
    def shape(self) -> torch.Size:
        rows, heads, columns, size = self.tail.shape
        return torch.Size((rows, heads, self.prefix.shape[2] + columns, size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def __getitem__(self, index: Any) -> Tensor:
        return self.whole[index]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention and len(args) == 3 and serves(*args, **kwargs):
            return attend(*args, kwargs.get("attn_mask"), kwargs.get("scale"))
        args, kwargs = tree_map_only(Joined, lambda joined: joined.whole, (args, kwargs))
        return func(*args, **kwargs)


def serves(query: Any, key: Any, value: Any, /, *, is_causal: bool = False, dropout_p: float = 0, **rest: Any) -> bool:
    """Whether ``attend`` can take the place of this attention."""
    parted = isinstance(key, Joined) and isinstance(value, Joined)
    plain = not is_causal and not dropout_p and not (rest.get("enable_gqa") and rest.get("attn_mask") is not None)
    return parted and plain and (query.device.type == "cuda" or query.dtype == torch.float32)


def attend(query: Tensor, key: Joined, value: Joined, mask: Tensor | None, scale: float | None) -> Tensor:
    """Attention (rows, heads, tail, d_head); the ``mask`` (..., tail, prefix + tail) is boolean or added to the scores.

    Without a mask, several query heads may share a key head: they are rows of one product with it.
    """
    shape, prefix = query.shape, key.prefix.shape[2]
    query = query * (shape[-1] ** -0.5 if scale is None else scale)
    query = query.reshape(shape[0], key.shape[1], -1, shape[-1])
    before = query @ key.prefix.mT
    if key.absent is not None:
        before = before.masked_fill(key.absent[:, None, None], -torch.inf)
    scores = torch.cat([before, query @ key.tail.mT], -1)
    if mask is not None:
        scores = scores + mask if mask.is_floating_point() else scores.masked_fill(~mask, -torch.inf)
    share = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(query.dtype)
    return (share[..., :prefix] @ value.prefix + share[..., prefix:] @ value.tail).reshape(*shape[:-1], -1)
