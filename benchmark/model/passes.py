"""A forward pass over a pack, perturbed and defended: what any gives, and the one of the whole model.

``FullPass`` runs the model from its tokens; ``benchmark.model.tail`` has the pass of only what a perturbation can
change. Both take an example of several lines (texts that the model is made to read) with all of them at once: the same
perturbation is written into each, and the stream that is observed is what they share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from benchmark.contracts.defense import Edit
from benchmark.contracts.readout import Last, Reader, Text
from benchmark.model.edits import Passage, passing, up_to
from benchmark.model.generation import generate
from benchmark.model.pack import Pack
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


def weighed(seen: Seen, weigh: Weigh | None, pack: Pack, last: Last | None, rows: Tensor) -> Seen:
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
        passage = self.writes.passage(self.edits, in_lines(pack, delta), observe | read_at(pack.reader))
        with passing(self.subject, passage, pack.readout + 1):
            ids = pack.ids[pack.lines_of(rows)]
            last = self._stopping(ids, observe) if pack.reader.boundary is not None else self._to_the_end(ids)
        read = pack.reader(last, passage.seen.get(pack.reader.boundary), rows)  # pyright: ignore
        seen = Seen(read, {b: _shared(pack, passage.seen[b])[:, self.writes.start :] for b in observe})
        return weighed(seen, self.weigh, pack, last, rows)

    def _to_the_end(self, ids: Tensor) -> Last:
        keep = ids.shape[1] - self.pack.readout
        return _Logits(self.subject.model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits)

    def _stopping(self, ids: Tensor, observe: frozenset[int]) -> None:
        """What is read stands in the stream: no layer above it and above what is observed."""
        with up_to(self.subject, max(observe | read_at(self.pack.reader))):
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


def in_lines(pack: Pack, delta: Tensor | None) -> Tensor | None:
    """``delta`` of each row (rows, ...) for all of its lines."""
    return delta if delta is None or pack.lines == 1 else delta.repeat_interleave(pack.lines, 0)


def _shared(pack: Pack, stream: Tensor) -> Tensor:
    """What the lines of a row have in common of a stream (rows * lines, position, d_model)."""
    return stream if pack.lines == 1 else stream[:: pack.lines, : pack.length]


def read_at(reader: Reader) -> frozenset[int]:
    return frozenset() if reader.boundary is None else frozenset({reader.boundary})
