"""Documents as token rows: from texts of the user, in a drawn order, cut to the context, in blocks of equal size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from benchmark.model.subject import Subject
from benchmark.sae.training.settings import Collection, seed_of

Document = list[list[int]]
"""The token rows of one text, each a pass of the model that begins as every text does."""
Blocks = Callable[[int], Sequence[Document]]
"""Number of a block -> its documents, always the same ones; none: the text has ended."""
BLOCK = 8192
"""Tokens of a block, about: what is lost when collecting is interrupted."""
_ROWS = 8
"""Rows of a document; a longer text counts as several, else a book would be held out whole."""


def beginning(subject: Subject) -> list[int]:
    """What stands in front of every text: BOS, or nothing."""
    return [subject.tokenizer.bos_token_id] if subject.bos else []


def cut(ids: Sequence[int], start: Sequence[int], context: int) -> Iterator[list[int]]:
    """Rows of at most ``context`` tokens, each behind ``start``; a row has something behind its first position."""
    room = context - len(start)
    for at in range(0, len(ids), room):
        row = [*start, *ids[at : at + room]]
        if len(row) > 1:
            yield row


def from_texts(subject: Subject, texts: Iterable[str], settings: Collection) -> Blocks:
    """Blocks of texts, each of them once, in an order that the seed decides."""
    different = list(dict.fromkeys(texts))
    order = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed_of(settings.seed, "texts")))
    shuffled = [different[i] for i in order.tolist()]
    start = beginning(subject)
    documents: list[Document] = []
    for ids in subject.tokenizer(shuffled, add_special_tokens=False)["input_ids"] if shuffled else ():
        rows = list(cut(ids, start, settings.context))
        documents += [rows[i : i + _ROWS] for i in range(0, len(rows), _ROWS)]
    blocks = _packed(documents)
    return lambda number: blocks[number] if number < len(blocks) else []


def _packed(documents: Iterable[Document]) -> list[list[Document]]:
    blocks: list[list[Document]] = []
    room = 0
    for document in documents:
        if room <= 0:
            blocks.append([])
            room = BLOCK
        blocks[-1].append(document)
        room -= sum(map(len, document))
    return blocks


def together(sources: Sequence[Blocks]) -> Blocks:
    """A block of each source at a time, until all have ended."""
    return lambda number: [document for source in sources for document in source(number)]
