"""Activations of many documents, captured once for all sites and kept on disk block by block.

The first position of a row is left out: whatever token stands there, models use it as a sink for attention, with a
stream a hundred times as long as elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmark.errors import UsageError
from benchmark.files import write_atomically
from benchmark.model.edits import boundaries
from benchmark.model.subject import Subject
from benchmark.sae.training.documents import Blocks, Document
from benchmark.sae.training.settings import Collection
from benchmark.sites import Site

STORED = torch.bfloat16
"""Half the room; its range is that of fp32, which the stream of some models needs."""
PASS = 4096
"""Padded tokens of a pass."""
_APART = 10
"""One document in so many is held out, until there are enough."""

Advance = Callable[[int, int], None]
"""Told how many tokens there are, of how many."""


class _Reached(Exception):
    """The last layer that is wanted has been passed."""


class Rows(NamedTuple):
    """Token rows padded on the right, which what stands before does not see."""

    ids: Tensor
    """(rows, position)."""
    kept: Tensor
    """(rows, position), bool: no padding, and not the first position."""


def padded(rows: Sequence[Sequence[int]], tokens: int = PASS) -> Iterator[Rows]:
    """Rows in their order, as many at a time as have about ``tokens`` tokens with their padding."""
    start = 0
    while start < len(rows):
        end, longest = start, 0
        while end < len(rows) and (end == start or max(longest, len(rows[end])) * (end + 1 - start) <= tokens):
            longest = max(longest, len(rows[end]))
            end += 1
        part = [torch.tensor(row) for row in rows[start:end]]
        lengths = torch.tensor([len(row) for row in part])
        place = torch.arange(longest)
        yield Rows(pad_sequence(part, batch_first=True), (place < lengths[:, None]) & (place > 0))
        start = end


@torch.no_grad()
def streams(
    subject: Subject, rows: Sequence[Sequence[int]], wanted: Sequence[int], tokens: int = PASS
) -> Iterator[tuple[dict[int, Tensor], Rows]]:
    """For a few rows at a time: boundary -> stream (rows, position, d_model) on the model's device, and the rows.

    The layers above the last boundary that is wanted are not computed.
    """
    seen: dict[int, Tensor] = {}

    def act(boundary: int, h: Tensor) -> Tensor:
        seen[boundary] = h
        if boundary == max(wanted):
            raise _Reached
        return h

    for batch in padded(rows, tokens):
        seen.clear()
        try:
            with boundaries(subject, set(wanted).__contains__, act):
                subject.model(input_ids=batch.ids.to(subject.device), use_cache=False, logits_to_keep=1)
        except _Reached:
            pass
        yield dict(seen), batch


class Collected(NamedTuple):
    """What is on disk."""

    files: list[Path]
    tokens: int
    """Activations a site."""
    held_out: list[list[int]]
    """Token rows that no activation comes from."""
    seconds: float
    """Spent on it, by earlier runs too."""

    def read(self, site: Site) -> Tensor:
        """The activations of a site, (tokens, d_model), as they were stored."""
        parts = [load_file(file)[str(site)] for file in self.files]
        return torch.cat(parts)[: self.tokens]


def collect(
    subject: Subject,
    sites: Sequence[Site],
    blocks: Blocks,
    settings: Collection,
    folder: Path,
    advance: Advance = lambda done, total: None,
    asked: Sequence[bool] = (),
) -> Collected:
    """Capture the activations of ``blocks`` into ``folder``, after those that are there already.

    Raises:
        KeyboardInterrupt: ``asked`` has filled; finished blocks are kept.
        UsageError: there is no text to train on, or none to measure on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    held_out: list[list[int]] = []
    count, seconds = 0, 0.0
    while count < settings.tokens:
        file = folder / f"{len(files):05d}.safetensors"
        if not file.exists():
            started = time.monotonic()
            documents = blocks(len(files))
            if not documents:
                break
            tensors = _captured(subject, sites, documents, _room(held_out, settings))
            _store(file, tensors, time.monotonic() - started)
        apart, tokens, took = _peek(file)
        held_out, count, seconds = held_out + apart, count + tokens, seconds + took
        files.append(file)
        advance(min(count, settings.tokens), settings.tokens)
        if asked:
            raise KeyboardInterrupt
    if not count or not held_out:
        raise UsageError("the text is too short to train on and to measure on; give more --text, or --text model")
    return Collected(files, min(count, settings.tokens), held_out, seconds)


def _room(held_out: Sequence[Sequence[int]], settings: Collection) -> int:
    """Tokens that may still be held out."""
    return settings.held_out - sum(len(row) - 1 for row in held_out)


def _captured(subject: Subject, sites: Sequence[Site], documents: Sequence[Document], room: int) -> dict[str, Tensor]:
    """What a block's file holds: activations by site, and held-out rows one behind the other with their lengths."""
    apart, rows = _split(documents, room)
    at = {site: subject.check(site).boundary for site in sites}
    parts: dict[Site, list[Tensor]] = {site: [torch.empty(0, subject.d_model, dtype=STORED)] for site in sites}
    for seen, batch in streams(subject, sorted(rows, key=len), list(at.values())):
        for site in sites:
            parts[site].append(seen[at[site]].cpu()[batch.kept].to(STORED))
    tensors = {str(site): torch.cat(parts[site]) for site in sites}
    lengths, ids = [len(row) for row in apart], [token for row in apart for token in row]
    return tensors | {"held_out": torch.tensor(ids, dtype=torch.int32), "lengths": torch.tensor(lengths)}


def _store(file: Path, tensors: dict[str, Tensor], seconds: float) -> None:
    said = {"seconds": repr(seconds)}
    write_atomically(file, lambda part: save_file(tensors, part, metadata=said))


def _split(documents: Sequence[Document], room: int) -> tuple[list[list[int]], list[list[int]]]:
    """Rows to measure on, about ``room`` tokens at most, and rows of other documents to train on."""
    apart: list[list[int]] = []
    rows: list[list[int]] = []
    for number, document in enumerate(documents):
        if number % _APART or room <= 0:
            rows += document
            continue
        for row in document:
            if room > 0:
                apart.append(row)
                room -= len(row) - 1
    return apart, rows


def _peek(file: Path) -> tuple[list[list[int]], int, float]:
    """The held-out rows of a block, the number of its activations, which are not read, and what it took in seconds."""
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as opened:
        lengths = opened.get_tensor("lengths").tolist()
        rows = opened.get_tensor("held_out").long().split(lengths)
        site = next(name for name in opened.keys() if name not in ("held_out", "lengths"))
        count = int(opened.get_slice(site).get_shape()[0])
        return [row.tolist() for row in rows], count, float(opened.metadata()["seconds"])
