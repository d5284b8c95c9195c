"""Attention to a recorded prefix and to the columns behind it, without joining the two."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils._pytree import tree_map_only

ALIGNED = 8
"""Columns of a prefix in half precision come in multiples of so many: others are beyond the fast products of a GPU."""
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
_EACH = (slice(None), slice(None), None, slice(None), slice(None))
"""The index with which keys are repeated for the query heads that share them (``repeat_kv``)."""


class Joined:
    """Keys, or values, of a prefix (rows, heads, prefix, d_head) and of the tail behind it, in place of one tensor.

    On a GPU, or of fp32, attention takes the two as they are: copying the prefix at every step, and forming the
    gradient that nobody asks for, would take longer than the attention itself. Whatever else looks gets them joined.
    """

    def __init__(
        self,
        prefix: Tensor,
        tail: Tensor,
        absent: Tensor | None = None,
        *,
        length: int | None = None,
        shared: int = 1,
        turned: bool = False,
    ) -> None:
        """
        Args:
            absent: (rows, prefix) bool: columns that are not there, and that no mask hides.
            length: columns of the prefix; what it has beyond them must be finite and counts for nothing. None: all.
            shared: how many query heads share one of these.
            turned: the last two dimensions are the other way round.
        """
        self.prefix, self.tail, self.absent = prefix, tail, absent
        self.length = prefix.shape[2] if length is None else length
        self.shared, self.turned = shared, turned

    @cached_property
    def whole(self) -> Tensor:
        """The two as one tensor.

        Raises:
            TypeError: some columns are absent, which a tensor cannot say.
        """
        if self.absent is not None:
            raise TypeError("a prefix with absent columns is no tensor")
        whole = torch.cat([self.prefix[:, :, : self.length], self.tail], 2).repeat_interleave(self.shared, 1)
        return whole.mT if self.turned else whole

    @property
    def shape(self) -> torch.Size:
        rows, heads, columns, size = self.tail.shape
        last = (self.length + columns, size)
        return torch.Size((rows, heads * self.shared, *(last[::-1] if self.turned else last)))

    def transpose(self, one: int, other: int) -> Any:
        if {one % 4, other % 4} != {2, 3}:
            return self.whole.transpose(one, other)
        return self._as(turned=not self.turned)

    def _as(self, *, shared: int | None = None, turned: bool | None = None) -> Joined:
        return Joined(
            self.prefix,
            self.tail,
            self.absent,
            length=self.length,
            shared=self.shared if shared is None else shared,
            turned=self.turned if turned is None else turned,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def __getitem__(self, index: Any) -> Any:
        plain = isinstance(index, tuple) and all(i is None or isinstance(i, slice) for i in index)
        if plain and index == _EACH and self.shared == 1 and not self.turned:
            return _Spread(self)
        return self.whole[index]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention and len(args) == 3 and serves(*args, **kwargs):
            return attend(*args, kwargs.get("attn_mask"), kwargs.get("scale"))
        if func in _PRODUCTS and not kwargs and multiplies(*args):
            return scores(*args) if args[1].turned else mixture(*args)
        args, kwargs = tree_map_only(Joined, lambda joined: joined.whole, (args, kwargs))
        return func(*args, **kwargs)


class _Spread:
    """Keys on their way to being repeated for the query heads that share them; to anything else one tensor."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined

    def expand(self, *sizes: int) -> Any:
        rows, heads, columns, size = self._joined.shape
        if len(sizes) == 5 and sizes[:2] + sizes[3:] == (rows, heads, columns, size):
            return _Shared(self._joined, sizes[2])
        return self._tensor().expand(*sizes)

    def _tensor(self) -> Tensor:
        return self._joined.whole[_EACH]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tensor(), name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(_Spread, lambda spread: spread._tensor(), (args, kwargs or {}))
        return func(*args, **kwargs)


class _Shared(_Spread):
    """The same, expanded."""

    def __init__(self, joined: Joined, shared: int) -> None:
        super().__init__(joined)
        self._shared = shared

    def reshape(self, *sizes: int) -> Any:
        rows, heads, columns, size = self._joined.shape
        if sizes == (rows, heads * self._shared, columns, size):
            return self._joined._as(shared=self._shared)
        return self._tensor().reshape(*sizes)

    def expand(self, *sizes: int) -> Any:
        return self._tensor().expand(*sizes)

    def _tensor(self) -> Tensor:
        rows, heads, columns, size = self._joined.shape
        return super()._tensor().expand(rows, heads, self._shared, columns, size)


def serves(query: Any, key: Any, value: Any, /, *, is_causal: bool = False, dropout_p: float = 0, **rest: Any) -> bool:
    """Whether ``attend`` can take the place of this attention."""
    parted = all(isinstance(x, Joined) and x.shared == 1 and not x.turned for x in (key, value))
    plain = not is_causal and not dropout_p and not (rest.get("enable_gqa") and rest.get("attn_mask") is not None)
    return parted and plain and _taken(query)


def multiplies(left: Any, right: Any) -> bool:
    """Whether ``scores`` or ``mixture`` can take the place of this product."""
    if not (isinstance(left, Tensor) and isinstance(right, Joined)):
        return False
    fits = left.dim() == 4 and (left.shape[0], left.shape[1], left.shape[3]) == (*right.shape[:2], right.shape[2])
    return fits and right.absent is None and left.dtype == right.tail.dtype and _taken(left)


def _taken(query: Tensor) -> bool:
    return query.device.type == "cuda" or query.dtype == torch.float32


def attend(query: Tensor, key: Joined, value: Joined, mask: Tensor | None, scale: float | None) -> Tensor:
    """Attention (rows, heads, tail, d_head); the ``mask`` (..., tail, prefix + tail) is boolean or added to the scores.

    Without a mask, several query heads may share a key head: they are rows of one product with it.
    """
    shared = query.shape[1] // key.shape[1]
    found = scores(query * (query.shape[-1] ** -0.5 if scale is None else scale), key._as(shared=shared))
    if mask is not None:
        found = found + mask if mask.is_floating_point() else found.masked_fill(~mask, -torch.inf)
    share = found.softmax(-1, dtype=torch.promote_types(found.dtype, torch.float32)).to(query.dtype)
    return mixture(share, value._as(shared=shared))


def scores(query: Tensor, key: Joined) -> Tensor:
    """The product of every query (rows, heads, tail, d_head) with every key: (rows, heads, tail, prefix + tail)."""
    rows = _by_key_head(query, key)
    before = (rows @ key.prefix.mT)[..., : key.length]
    if key.absent is not None:
        before = before.masked_fill(key.absent[:, None, None], -torch.inf)
    return torch.cat([before, rows @ key.tail.mT], -1).reshape(*query.shape[:-1], -1)


def mixture(share: Tensor, value: Joined) -> Tensor:
    """Values by their share (rows, heads, tail, prefix + tail): (rows, heads, tail, d_head)."""
    rows = _by_key_head(share, value)
    before = pad(rows[..., : value.length], (0, value.prefix.shape[2] - value.length))
    return (before @ value.prefix + rows[..., value.length :] @ value.tail).reshape(*share.shape[:-1], -1)


def _by_key_head(x: Tensor, joined: Joined) -> Tensor:
    """The rows of all query heads that share a key head side by side."""
    return x.reshape(x.shape[0], joined.tail.shape[1], -1, x.shape[-1])
