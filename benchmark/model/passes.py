"""Forward passes over a pack, perturbed and defended: the whole model, or only what a perturbation can change.

``FullPass`` runs the model from its tokens. ``TailPass`` begins at the first perturbed layer and position, on
top of recorded hidden states and keys and values: one capture pass records each layer's own keyword arguments and
they are replayed, so no model family needs code of its own. Both give the same numbers and gradients; the engine
checks that at the start of a run and falls back to the full pass where they differ.

Both take an example of several lines (texts that the model is made to read) with all of them at once: the same
perturbation is written into each, and the stream that is observed is what they share.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache

from benchmark.contracts.defense import Edit
from benchmark.contracts.readout import Last, Reader, Text
from benchmark.model.edits import Passage, boundaries, is_position_wise, passing, up_to
from benchmark.model.generation import generate
from benchmark.model.pack import Pack
from benchmark.model.packed import packed
from benchmark.model.prefix import Joined
from benchmark.model.subject import Subject


class Seen(NamedTuple):
    """What comes out of a pass."""

    read: Any
    """What the pack's reader makes of it, fp32."""
    stream: dict[int, Tensor]
    """Boundary -> the stream there (rows, position from ``start`` on, d_model)."""
    log_mass: Tensor | None = None
    """What a pass that weighs says of the logits (rows,), nats, without a gradient: the whole unembedding's costs twice
    what it costs itself ..."""
    weigh: Callable[[Tensor], Tensor] | None = None
    """... and is asked for few rows: the same of those with these indices, (k,), with it."""


@dataclass(frozen=True)
class Writes:
    """Where an attacker writes: the same columns at every site."""

    boundaries: tuple[int, ...]
    start: int
    """Absolute position of the first perturbed column."""
    width: int
    """Number of perturbed columns."""
    after: bool
    """After the edit of the same site, else before it."""

    def passage(self, edits: Mapping[int, Edit], delta: Tensor | None, observe: frozenset[int]) -> Passage:
        """The passage that applies ``delta`` (rows, sites, width, d_model)."""
        writes = {} if delta is None else {b: delta[:, i] for i, b in enumerate(self.boundaries)}
        return Passage(edits, writes, self.start, self.after, observe)


class Pass(Protocol):
    """A differentiable forward pass of some rows of a pack."""

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        """``rows`` (rows,): index of each row's example in the pack; ``delta`` (rows, sites, width, d_model)."""
        ...


Weigh = Callable[[Any, Any, Last, Tensor], Tensor | None]
"""A reader, what it read, of what, and rows -> ``Readout.log_mass``."""


def _weighed(seen: Seen, weigh: Weigh | None, pack: Pack, last: Last | None, rows: Tensor) -> Seen:
    """What is seen with what is weighed, if that is asked for."""
    if weigh is None or last is None:
        return seen
    with torch.no_grad():
        log_mass = weigh(pack.reader, seen.read, last, rows)
    if log_mass is None:
        return seen

    def some(index: Tensor) -> Tensor:
        found = weigh(pack.reader, seen.read[index], last.part(pack.lines_of(index)), rows[index])
        assert found is not None, "it was weighed before"
        return found

    return seen._replace(log_mass=log_mass, weigh=some)


@dataclass(frozen=True)
class FullPass:
    """Every layer up to what is read, and every position, from the tokens, with hooks on the live model."""

    subject: Subject
    pack: Pack
    edits: Mapping[int, Edit]
    writes: Writes
    weigh: Weigh | None = None
    """``Readout.log_mass`` of what is read; None: nobody asks."""

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        pack = self.pack
        passage = self.writes.passage(self.edits, _in_lines(pack, delta), observe | _read_at(pack.reader))
        with passing(self.subject, passage, pack.readout + 1):
            ids = pack.ids[pack.lines_of(rows)]
            last = self._stopping(ids, observe) if pack.reader.boundary is not None else self._to_the_end(ids)
        read = pack.reader(last, passage.seen.get(pack.reader.boundary), rows)  # pyright: ignore
        seen = Seen(read, {b: _shared(pack, passage.seen[b])[:, self.writes.start :] for b in observe})
        return _weighed(seen, self.weigh, pack, last, rows)

    def _to_the_end(self, ids: Tensor) -> Last:
        keep = ids.shape[1] - self.pack.readout
        return _Logits(self.subject.model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits)

    def _stopping(self, ids: Tensor, observe: frozenset[int]) -> None:
        """What is read stands in the stream: no layer above it and above what is observed."""
        with up_to(self.subject, max(observe | _read_at(self.pack.reader))):
            self.subject.model(input_ids=ids, use_cache=False, logits_to_keep=1)

    def whole(self, delta: Tensor | None, rows: Tensor, boundary: int) -> Tensor:
        """The stream at ``boundary`` over the whole text, (rows, position, d_model)."""
        passage = self.writes.passage(self.edits, delta, frozenset({boundary}))
        with passing(self.subject, passage, self.pack.readout + 1), up_to(self.subject, boundary):
            ids = self.pack.ids[rows * self.pack.lines, : self.pack.length]
            self.subject.model(input_ids=ids, use_cache=False, logits_to_keep=1)
        return passage.seen[boundary]

    def write(self, delta: Tensor | None, rows: Tensor, limit: int) -> list[Text]:
        """What the perturbed model writes after the prompts, greedily, at most ``limit`` tokens."""
        passage = self.writes.passage(self.edits, delta, frozenset())
        return generate(self.subject, self.pack.prompt[rows], passage, limit)


class _Logits(NamedTuple):
    """Logits that the model itself formed (rows, columns, vocabulary)."""

    logits: Tensor

    def few(self, tokens: Tensor) -> Tensor:
        return self.logits[:, 0].gather(1, tokens)

    def every(self) -> Tensor:
        return self.logits

    def part(self, index: Tensor) -> _Logits:
        return _Logits(self.logits[index])


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


def _in_lines(pack: Pack, delta: Tensor | None) -> Tensor | None:
    """``delta`` of each row (rows, ...) for all of its lines."""
    return delta if delta is None or pack.lines == 1 else delta.repeat_interleave(pack.lines, 0)


def _shared(pack: Pack, stream: Tensor) -> Tensor:
    """What the lines of a row have in common of a stream (rows * lines, position, d_model)."""
    return stream if pack.lines == 1 else stream[:: pack.lines, : pack.length]


def _read_at(reader: Reader) -> frozenset[int]:
    return frozenset() if reader.boundary is None else frozenset({reader.boundary})


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
        self._capture()

    @torch.no_grad()
    def _capture(self) -> None:
        calls: list[inspect.BoundArguments] = []
        raw: dict[int, Tensor] = {}
        layers = self.subject.layers[self.first :]
        at = _read_at(self.pack.reader)
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
        self.hidden = start[:, self.offset :].clone()
        self.dtype = raw[self.first].dtype
        self.before = {b: passage.seen[b][:, : self.offset] for b in at}
        kept: list[Any] = cache.layers
        self.prefix = {
            i: (kept[i].keys[:, :, : self.offset].clone(), kept[i].values[:, :, : self.offset].clone())
            for i in range(self.first, len(kept))
        }
        self.calls = [_tail_arguments(call, self.offset, self.pack.ids.shape[1]) for call in calls]
        self._gathered: tuple[Tensor, dict[int, tuple[Tensor, Tensor]]] | None = None

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        reader = self.pack.reader
        passage = self.writes.passage(self.edits, _in_lines(self.pack, delta), observe | _read_at(reader))
        lines = self.pack.lines_of(rows)
        where = self.pack.where.columns(self.offset).rows(lines)
        cache = _PrefixCache(self._prefix(lines), self.offset)
        # no layer above what is read
        top = self.subject.n_layers if reader.boundary is None else max({self.first, reader.boundary} | observe)
        h = passage(self.first, self.hidden[lines], where, edited=self.writes.after).to(self.dtype)
        for i in range(self.first, top):
            call = self.calls[i - self.first].items()
            output = self.layers[i - self.first](h, **{k: cache if isinstance(v, Cache) else v for k, v in call})
            h = passage(i + 1, output[0] if isinstance(output, tuple) else output, where)
        skip, shown = self.writes.start - self.offset, self.pack.length - self.offset
        stream = {b: passage.seen[b][:: self.pack.lines, skip:shown] for b in observe}
        if reader.boundary is not None:
            whole = torch.cat([self.before[reader.boundary][lines], passage.seen[reader.boundary]], 1)
            return Seen(reader(None, whole, rows), stream)
        last = _Hidden(self.subject, self.norm(h[:, self.pack.readout - self.offset :]))
        return _weighed(Seen(reader(last, None, rows), stream), self.weigh, self.pack, last, rows)

    def _prefix(self, lines: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Keys and values of each line; kept while the same lines are asked for again."""
        known = self._gathered
        if known is None or (known[0] is not lines and not torch.equal(known[0], lines)):  # to compare, a device waits
            known = self._gathered = (lines, {i: (k[lines], v[lines]) for i, (k, v) in self.prefix.items()})
        return known[1]


class _PrefixCache(DynamicCache):
    """Read-only keys and values of the prefix; stateless, so that one step does not see another's."""

    def __init__(self, prefix: Mapping[int, tuple[Tensor, Tensor]], length: int) -> None:
        super().__init__()
        self.prefix, self.length = prefix, length

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        keys, values = self.prefix[layer_idx]
        return Joined(keys, key_states), Joined(values, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.length + query_length, 0


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
