"""The pass of only what a perturbation can change: the layers from the first perturbed one up, and the positions from
the first perturbed one on, on top of recorded hidden states and of recorded keys and values.

One capture pass records each layer's own keyword arguments and they are replayed, so no model family needs code of its
own. Values and gradients are those of the full pass (``benchmark.model.passes``); the engine checks that at the start
of a run and falls back to the full pass where they differ.

What is recorded of several packs can stand side by side: where their tails are of one shape, whatever their lengths
are, they run as one (``TailBatch``).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from benchmark.contracts.defense import Edit
from benchmark.model.edits import Passage, boundaries, is_position_wise, passing
from benchmark.model.pack import Pack
from benchmark.model.packed import packed
from benchmark.model.passes import Seen, Weigh, Writes, in_lines, read_at, weighed
from benchmark.model.recorded import Recorded, side_by_side
from benchmark.model.stack import Stack
from benchmark.model.subject import Subject


class TailPass:
    """Layers from the first perturbed one up, positions from the first perturbed one on."""

    def __init__(self, subject: Subject, pack: Pack, edits: Mapping[int, Edit], writes: Writes) -> None:
        self.subject, self.pack, self.edits, self.writes = subject, pack, edits, writes
        self.weigh: Weigh | None = None
        """As in ``FullPass``."""
        self.first = min(writes.boundaries)
        alone = all(is_position_wise(edit) for b, edit in edits.items() if b >= self.first)
        # an edit that looks at other positions needs the whole sequence; then only layers are saved
        self.offset = min(writes.start, pack.readout) if alone else 0
        self.norm, self.layers = final_norm(subject), packed(subject.layers[self.first :])
        self.recorded = self._capture()
        self._stack = Stack(self.layers, self.recorded)

    @torch.no_grad()
    def _capture(self) -> Recorded:
        calls: list[inspect.BoundArguments] = []
        raw: dict[int, Tensor] = {}
        layers = self.subject.layers[self.first :]
        at = read_at(self.pack.reader)
        cache = DynamicCache()  # without a config: a sliding-window layer would drop keys that later steps need
        passage = self.writes.passage(self.edits, None, at | {self.first})
        handles = []
        with (
            boundaries(self.subject, lambda b: b == self.first, lambda b, h: raw.setdefault(b, h)),
            passing(self.subject, passage, self.pack.readout + 1),
        ):
            try:
                handles = [m.register_forward_pre_hook(_recorder(calls), with_kwargs=True) for m in layers]
                self.subject.model(input_ids=self.pack.ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            finally:
                for handle in handles:
                    handle.remove()
        start = passage.seen[self.first] if self.writes.after else raw[self.first]
        self.dtype = raw[self.first].dtype
        self.before = {b: passage.seen[b][:, : self.offset] for b in at}
        kept: list[Any] = cache.layers
        return Recorded(
            start[:, self.offset :].clone(),
            {
                i: (kept[i].keys[:, :, : self.offset].clone(), kept[i].values[:, :, : self.offset].clone())
                for i in range(self.first, len(kept))
            },
            [_tail_arguments(call, self.offset, self.pack.ids.shape[1]) for call in calls],
        )

    @property
    def form(self) -> tuple[Any, ...]:
        """Passes over one model under the same edits run as one where they agree in it."""
        w, columns = self.writes, self.pack.ids.shape[1] - self.offset
        written = (w.boundaries, w.start - self.offset, w.width, w.after)
        masked = [call.get("attention_mask") is not None for call in self.recorded.calls]
        return *written, self.pack.readout - self.offset, columns, self.pack.lines, *masked

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        return _run([_Part(self, delta, rows, observe)], self._stack, self.pack.lines_of(rows))[0]

    def seen(self, h: Tensor, passage: Passage, rows: Tensor, observe: frozenset[int]) -> Seen:
        """What is read and observed; ``h``: the stream behind the last layer that ran (lines, columns, d_model)."""
        reader, lines = self.pack.reader, self.pack.lines_of(rows)
        skip, shown = self.writes.start - self.offset, self.pack.length - self.offset
        stream = {b: passage.seen[b][:: self.pack.lines, skip:shown] for b in observe}
        if reader.boundary is not None:
            whole = torch.cat([self.before[reader.boundary][lines], passage.seen[reader.boundary]], 1)
            return Seen(reader(None, whole, rows), stream)
        last = _Hidden(self.subject, self.norm(h[:, self.pack.readout - self.offset :]))
        return weighed(Seen(reader(last, None, rows), stream), self.weigh, self.pack, last, rows)

    def top(self, observe: frozenset[int]) -> int:
        """The boundary above which no layer is needed."""
        read = self.pack.reader.boundary
        return self.subject.n_layers if read is None else max({self.first, read} | observe)


class TailBatch:
    """Tail passes of one ``form`` over packs of any lengths, as one."""

    def __init__(self, tails: Sequence[TailPass]) -> None:
        self.tails = tails
        self.recorded = side_by_side([tail.recorded for tail in tails])
        self._stack = Stack(tails[0].layers, self.recorded)
        lines = [len(tail.pack.ids) for tail in tails]
        self._first = [sum(lines[:k]) for k in range(len(lines))]

    def __call__(
        self, asked: Mapping[int, tuple[Tensor, Tensor]], observe: frozenset[int] = frozenset()
    ) -> dict[int, Seen]:
        """``asked``: index of a pass -> ``delta`` and ``rows`` as it takes them; what each of these gives."""
        parts = [_Part(self.tails[k], delta, rows, observe) for k, (delta, rows) in asked.items()]
        lines = torch.cat([self._first[k] + self.tails[k].pack.lines_of(rows) for k, (_, rows) in asked.items()])
        return dict(zip(asked, _run(parts, self._stack, lines), strict=True))


class _Part:
    """The rows of one pack, on their way through the layers."""

    def __init__(self, tail: TailPass, delta: Tensor | None, rows: Tensor, observe: frozenset[int]) -> None:
        pack = tail.pack
        self.tail, self.rows, self.observe = tail, rows, observe
        self.passage = tail.writes.passage(tail.edits, in_lines(pack, delta), observe | read_at(pack.reader))
        self.lines = len(rows) * pack.lines
        self._where = pack.where.columns(tail.offset).rows(pack.lines_of(rows))

    def __call__(self, boundary: int, h: Tensor, *, edited: bool = False) -> Tensor:
        return self.passage(boundary, h, self._where, edited=edited)

    def seen(self, h: Tensor) -> Seen:
        return self.tail.seen(h, self.passage, self.rows, self.observe)


def _run(parts: Sequence[_Part], stack: Stack, lines: Tensor) -> list[Seen]:
    """What each part sees; ``lines``: of what is recorded, those of the parts one after the other."""
    tail, sizes = parts[0].tail, [part.lines for part in parts]
    first, top = tail.first, max(part.tail.top(part.observe) for part in parts)

    def touched(boundary: int) -> bool:
        return any(part.passage.touches(boundary) for part in parts)

    def across(boundary: int, h: Tensor, *, edited: bool = False) -> Tensor:
        if len(parts) == 1:
            return parts[0](boundary, h, edited=edited)
        if not touched(boundary):
            return h
        pieces = zip(parts, h.split(sizes), strict=True)
        return torch.cat([part(boundary, piece, edited=edited) for part, piece in pieces])

    h = across(first, stack.recorded.hidden[lines], edited=tail.writes.after).to(tail.dtype)
    ends: list[int] = [*filter(touched, range(first + 1, top)), top] if top > first else []
    for start, stop in pairwise([first, *ends]):
        h = across(stop, stack(h, lines, range(start - first, stop - first)))
    return [part.seen(piece) for part, piece in zip(parts, h.split(sizes), strict=True)]


class _Hidden(NamedTuple):
    """Final hidden states (rows, columns, d_model), unembedded as far as they are asked for."""

    subject: Subject
    hidden: Tensor

    def few(self, tokens: Tensor) -> Tensor:
        return self.subject.unembed(self.hidden[:, 0], tokens)

    def every(self) -> Tensor:
        return self.subject.unembed_all(self.hidden)

    def part(self, index: Tensor) -> _Hidden:
        return self._replace(hidden=self.hidden[index])


def _recorder(calls: list[inspect.BoundArguments]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(inspect.signature(module.forward).bind(*args, **kwargs))

    return hook


def _tail_arguments(call: inspect.BoundArguments, offset: int, length: int) -> dict[str, Any]:
    """The keyword arguments of a layer for the columns from ``offset`` on.

    Rows of a pack have the same positions and masks, so one row of each tensor serves all.
    """
    named = {**call.arguments}
    named.pop("hidden_states")
    named.update(named.pop("kwargs", {}))
    tail = {name: _columns(value, offset, length) for name, value in named.items()}
    if tail.get("attention_mask", 0) is None and 0 < offset < length - 1:
        # "no mask" means causal from the top left, which is wrong for several columns behind a prefix
        device = call.arguments["hidden_states"].device
        tail["attention_mask"] = torch.ones(length - offset, length, dtype=torch.bool, device=device).tril(offset)[
            None, None
        ]
    return tail


def _columns(value: Any, offset: int, length: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_columns(v, offset, length) for v in value)
    if not isinstance(value, Tensor):
        return value
    if value.dim() == 4:
        return value[:1, :, offset:]
    if value.dim() == 1:
        return value[offset:]
    return value[:1, offset:] if value.shape[1] == length else value


def final_norm(subject: Subject) -> nn.Module:
    """The module between the last layer and the unembedding, found by what the last layer's output is given to."""
    found: list[nn.Module] = []
    last: list[Tensor] = []

    def remember(_module: Any, _args: Any, output: Any) -> None:
        last.append(output[0] if isinstance(output, tuple) else output)

    def compare(module: nn.Module, args: tuple[Any, ...]) -> None:
        if last and args and args[0] is last[-1]:
            found.append(module)

    owner = next(m for m in subject.model.modules() if any(c is subject.layers for c in m.children()))
    handles = [subject.layers[-1].register_forward_hook(remember)]
    handles += [m.register_forward_pre_hook(compare) for m in owner.children() if m is not subject.layers]
    try:
        with torch.no_grad():
            subject.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=subject.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else nn.Identity()
