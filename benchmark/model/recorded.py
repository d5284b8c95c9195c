"""What a clean pass left for the tails of some lines, of one pack or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from benchmark.model.prefix import Joined

Keys = dict[int, tuple[Tensor, Tensor]]
"""Layer -> keys and values of the prefix (lines, heads, prefix, d_head)."""


@dataclass
class Recorded:
    """What a clean pass left for the tails of some lines."""

    hidden: Tensor
    """The stream that tails begin with (lines, columns, d_model)."""
    prefix: Keys
    calls: Sequence[Mapping[str, Any]]
    """Keyword arguments of each layer: a tensor of one row serves all lines, ``_EachOwn`` has one for each."""
    absent: Tensor | None = None
    """(lines, prefix) bool: columns that a shorter prefix does not have; None: all are there."""
    _last: tuple[Tensor, Keys] | None = None

    def prefix_of(self, lines: Tensor) -> Keys:
        """Keys and values of each line; kept while the same lines are asked for again."""
        known = self._last
        if known is None or (known[0] is not lines and not torch.equal(known[0], lines)):  # to compare, a device waits
            known = self._last = (lines, {i: (k[lines], v[lines]) for i, (k, v) in self.prefix.items()})
        return known[1]

    def absent_of(self, lines: Tensor) -> tuple[Tensor | None, frozenset[int]]:
        """The absent columns of each line, and the layers that are given no mask that hides them."""
        if self.absent is None:
            return None, frozenset()
        told = (call.get("attention_mask") is not None for call in self.calls)
        return self.absent[lines], frozenset(i for i, masked in zip(self.prefix, told, strict=True) if not masked)

    def call(self, layer: int, lines: Tensor, cache: Cache) -> dict[str, Any]:
        """What a layer is called with."""
        return {name: _given(value, lines, cache) for name, value in self.calls[layer].items()}


class _EachOwn(NamedTuple):
    """An argument that is not the same for every line."""

    lines: Tensor


def _given(value: Any, lines: Tensor, cache: Cache) -> Any:
    if isinstance(value, _EachOwn):
        return value.lines[lines]
    if isinstance(value, tuple):
        return tuple(_given(v, lines, cache) for v in value)
    return cache if isinstance(value, Cache) else value


def side_by_side(parts: Sequence[Recorded]) -> Recorded:
    """Recorded tails of one shape with prefixes of any length, as one: shorter prefixes are filled up on the left with
    columns that nothing attends to."""
    counts = [len(part.hidden) for part in parts]
    lengths = [_prefix_length(part) for part in parts]
    longest, device = max(lengths), parts[0].hidden.device
    prefix = {
        i: tuple(torch.cat([_filled(part.prefix[i][kind], longest, 2) for part in parts]) for kind in (0, 1))
        for i in parts[0].prefix
    }
    missing = [torch.arange(longest, device=device) < longest - length for length in lengths]
    absent = torch.cat([row.expand(count, -1) for row, count in zip(missing, counts, strict=True)])
    calls = [
        {name: _beside([part.calls[layer][name] for part in parts], counts, missing) for name in parts[0].calls[layer]}
        for layer in range(len(parts[0].calls))
    ]
    hidden = torch.cat([part.hidden for part in parts])
    return Recorded(hidden, prefix, calls, absent if absent.any() else None)  # pyright: ignore[reportArgumentType]


def _prefix_length(part: Recorded) -> int:
    return next(iter(part.prefix.values()))[0].shape[2] if part.prefix else 0


def _filled(x: Tensor, length: int, dim: int) -> Tensor:
    """``x`` with zeros before it, to so many columns."""
    shape = [*x.shape]
    shape[dim] = length - x.shape[dim]
    return torch.cat([x.new_zeros(shape), x], dim)


def _beside(values: Sequence[Any], counts: Sequence[int], missing: Sequence[Tensor]) -> Any:
    """One argument of a layer, as several packs have it, for all their lines."""
    first = values[0]
    if isinstance(first, tuple):
        return tuple(_beside(parts, counts, missing) for parts in zip(*values, strict=True))
    if not isinstance(first, Tensor) or first.dim() < 2:
        return first
    if first.dim() == 4:
        values = [_shifted(value, absent) for value, absent in zip(values, missing, strict=True)]
    if all(torch.equal(value, values[0]) for value in values[1:]):
        return values[0]
    return _EachOwn(torch.cat([v.expand(n, *v.shape[1:]) for v, n in zip(values, counts, strict=True)]))


def _shifted(mask: Tensor, absent: Tensor) -> Tensor:
    """A mask (1, 1 or heads, columns, prefix + columns) behind a prefix whose first columns are absent."""
    hidden = int(absent.sum())
    nothing = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    return torch.cat([mask.new_full((*mask.shape[:3], hidden), nothing), mask], 3)


class PrefixCache(DynamicCache):
    """Read-only keys and values of the prefix; stateless, so that one step does not see another's."""

    def __init__(self, prefix: Keys, absent: Tensor | None, unmasked: frozenset[int]) -> None:
        super().__init__()
        self.prefix, self.absent, self.unmasked = prefix, absent, unmasked
        self.length = next(iter(prefix.values()))[0].shape[2] if prefix else 0

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        keys, values = self.prefix[layer_idx]
        absent = self.absent if layer_idx in self.unmasked else None
        return Joined(keys, key_states, absent), Joined(values, value_states, absent)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.length + query_length, 0
