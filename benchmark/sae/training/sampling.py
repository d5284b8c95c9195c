"""Text that the model writes itself: drawn token by token from many different beginnings.

A row begins with a random token that begins a word, or, one row in four where there is a chat template, with the
opening of a user's turn, so that the model invents the question and then its answer. Tokens are drawn at temperature 1
from those that are not far less likely than the likeliest one (min-p, https://arxiv.org/abs/2407.01082): the far
tail, of which a long text always hits some, makes a small model ramble.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.model.generation import end_tokens
from benchmark.model.subject import Subject
from benchmark.sae.training.documents import Blocks, Document, beginning
from benchmark.sae.training.settings import Collection, seed_of

ROWS = 64
"""Rows that are drawn together; on a CPU more of them gain little."""
MIN_P = 0.02
"""Least probability of a token, as a share of the likeliest one's."""
CHATS = 4
"""One row in so many is a chat, where there is a chat template. They share their first tokens, so not more."""
_MARK = "\N{SNOWMAN}"


def sampled(subject: Subject, settings: Collection) -> Blocks:
    """Blocks of texts that the model writes, without end; the same on one device and dtype."""
    words, chat = openings(subject.tokenizer), chat_opening(subject.tokenizer)
    chat = chat if len(chat) < settings.context // 2 else []
    start = beginning(subject)

    def block(number: int) -> Sequence[Document]:
        generator = torch.Generator().manual_seed(seed_of(settings.seed, "sampled", number))
        chosen = torch.randint(len(words), (ROWS,), generator=generator).tolist()
        begun = [[*start, words[i]] for i in chosen]
        chats = ROWS // CHATS if chat else 0
        rows = written(subject, begun[chats:], settings.context, generator, to_the_end=True)
        if chats:
            rows += written(subject, [chat] * chats, settings.context, generator, to_the_end=False)
        return [[row] for row in rows if len(row) > len(start) + 1]

    return block


def openings(tokenizer: Any) -> list[int]:
    """Tokens that begin a word, by how tokenizers of this kind write them.

    Raises:
        UsageError: there is none.
    """
    special = set(tokenizer.all_special_ids)
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items() if index not in special}
    found = [i for i, token in vocabulary.items() if token[:1] in "\u0120\u2581 " and token[1:2].isalpha()]
    found = found or [i for i, token in vocabulary.items() if token[:1].isalpha()]
    if not found:
        raise UsageError("the tokenizer has no token that begins a word, so nothing can be sampled; give --text FILE")
    return sorted(found)


def chat_opening(tokenizer: Any) -> list[int]:
    """A chat up to where a user writes, in tokens; none: there is no chat template."""
    if not getattr(tokenizer, "chat_template", None):
        return []
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": _MARK}], tokenize=False)
    before, mark, _ = rendered.partition(_MARK)
    return tokenizer(before, add_special_tokens=False)["input_ids"] if mark else []


@torch.no_grad()
def written(
    subject: Subject, begun: Sequence[Sequence[int]], length: int, generator: torch.Generator, *, to_the_end: bool
) -> list[list[int]]:
    """Each of ``begun`` (rows of one length) written on to ``length`` tokens, or to its end token."""
    from transformers import DynamicCache

    ends = torch.tensor(sorted(end_tokens(subject)) if to_the_end else [], dtype=torch.long)
    ids, cache = torch.tensor(begun), DynamicCache()
    step = ids
    while ids.shape[1] < length and not torch.isin(ids[:, 1:], ends).any(1).all():
        out = subject.model(input_ids=step.to(subject.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
        step = draw(out.logits[:, -1].float(), generator)
        ids = torch.cat([ids, step], dim=1)
    return [_up_to(row, set(ends.tolist())) for row in ids.tolist()]


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One token a row (rows, 1) on the CPU, from the logits (rows, vocabulary)."""
    likely = logits.softmax(-1)
    likely = likely * (likely >= MIN_P * likely.amax(-1, keepdim=True))
    return torch.multinomial(likely.cpu(), 1, generator=generator)


def _up_to(row: list[int], ends: set[int]) -> list[int]:
    stop = next((i for i, token in enumerate(row) if i and token in ends), len(row))
    return row[: stop + 1]
