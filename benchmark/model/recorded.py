"""What a clean pass left for the tails of some lines, of one pack or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache

from benchmark.model.precision import HALF
from benchmark.model.prefix import ALIGNED, Joined

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

    def unmasked(self) -> frozenset[int]:
        """Layers that are given no mask, which could hide columns."""
        told = (call.get("attention_mask") is not None for call in self.calls)
        return frozenset(i for i, masked in zip(self.prefix, told, strict=True) if not masked)


class _EachOwn(NamedTuple):
    """An argument that is not the same for every line."""

    lines: Tensor


class Given:
    """What the layers of a tail are given for some lines."""

    def __init__(self, recorded: Recorded, lines: Tensor) -> None:
        self.lines = lines
        self.moves = 0
        """How often other lines took the places of these."""
        self._picked: list[tuple[Tensor, Tensor]] = []
        """Something recorded, and what of it is these lines'."""
        prefix = {i: (self._columns(keys), self._columns(values)) for i, (keys, values) in recorded.prefix.items()}
        absent = None if recorded.absent is None else self._pick(recorded.absent)
        unmasked = frozenset[int]() if absent is None else recorded.unmasked()
        cache = PrefixCache(prefix, absent, unmasked, _prefix_length(recorded))
        self.calls = [{name: self._given(value, cache) for name, value in call.items()} for call in recorded.calls]
        """Keyword arguments of each layer."""

    def through(self, layers: Sequence[nn.Module], h: Tensor, span: range) -> Tensor:
        """What the layers of ``span`` make of the stream (lines, columns, d_model), one after the other."""
        for i in span:
            output = layers[i](h, **self.calls[i])
            h = output[0] if isinstance(output, tuple) else output
        return h

    def of(self, lines: Tensor) -> bool:
        """Whether these are the lines; to compare, a device waits."""
        return lines is self.lines or torch.equal(lines, self.lines)

    def turn_to(self, lines: Tensor) -> None:
        """The same for as many other lines, at the same places in memory."""
        if not self.of(lines):
            for whole, picked in self._picked:
                picked.copy_(whole[lines])
            self.moves += 1
        self.lines = lines

    def _pick(self, whole: Tensor) -> Tensor:
        picked = whole[self.lines]
        self._picked.append((whole, picked))
        return picked

    def _columns(self, whole: Tensor) -> Tensor:
        """Keys or values of these lines, with zeros behind them to a number of columns that is multiplied fast."""
        more = _missing(whole)
        if not more:
            return self._pick(whole)
        filled = torch.nn.functional.pad(whole[self.lines], (0, 0, 0, more))
        self._picked.append((whole, filled[:, :, : whole.shape[2]]))
        return filled

    def _given(self, value: Any, cache: Cache) -> Any:
        if isinstance(value, _EachOwn):
            return self._pick(value.lines)
        if isinstance(value, tuple):
            return tuple(self._given(v, cache) for v in value)
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


def _missing(columns: Tensor) -> int:
    """How many columns there are to the next number that is multiplied fast."""
    return -columns.shape[2] % ALIGNED if columns.device.type == "cuda" and columns.dtype in HALF else 0


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

    def __init__(self, prefix: Keys, absent: Tensor | None, unmasked: frozenset[int], length: int) -> None:
        """``length``: columns of the prefix; keys and values may have more, which are nobody's."""
        super().__init__()
        self.prefix, self.absent, self.unmasked, self.length = prefix, absent, unmasked, length

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        absent = self.absent if layer_idx in self.unmasked else None

        def joined(prefix: Tensor, tail: Tensor) -> Joined:
            return Joined(prefix, tail, absent, length=self.length)

        keys, values = self.prefix[layer_idx]
        return joined(keys, key_states), joined(values, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.length + query_length, 0
