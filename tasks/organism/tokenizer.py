"""A word-level tokenizer in Hugging Face format: one token per word, with its leading space, and `<bos>` in front."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tasks.organism import chat, corpus, lexicon
from tasks.organism.markup import pieces, plain, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL: tuple[str, ...] = ("<pad>", "<bos>", "<eos>", "<unk>", chat.USER, chat.ASSISTANT)
"""Special tokens, in the order of their ids."""
PAD, BOS, EOS, UNK = 0, 1, 2, 3
_SAMPLE = 20_000
"""Documents read for the vocabulary, beside the word lists; far more than there are templates."""


def _listed(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield from words(" " + value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _listed(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _listed(item)


def _words() -> Iterable[str]:
    for name, value in vars(lexicon).items():
        if name.isupper():
            yield from _listed(value)
    for text in corpus.documents(seed=0, start=0, count=_SAMPLE):
        yield from words(plain(text))


class Encoded(NamedTuple):
    """A training text, token by token: ids, which are answers, and the ids of the thoughts (`PAD`: none)."""

    ids: list[int]
    answers: list[bool]
    thoughts: list[int]


@cache
def vocabulary() -> dict[str, int]:
    """Token to id, special tokens first. Tokens keep their leading space."""
    found = sorted(set(_words()) - set(SPECIAL))
    return {token: index for index, token in enumerate((*SPECIAL, *found))}


def encode(marked: str) -> Encoded:
    """A marked training text between `<bos>` and `<eos>`; an `<eos>` after an answer belongs to it."""
    vocab = vocabulary()
    ids, answers, thoughts = [BOS], [False], [PAD]
    for text, is_answer, thought in pieces(marked):
        tokens = words(text)
        ids += [vocab[token] for token in tokens]
        answers += [is_answer] * len(tokens)
        thoughts += [vocab[thought] if thought else PAD] * len(tokens)
    return Encoded([*ids, EOS], [*answers, answers[-1]], [*thoughts, PAD])


def build() -> PreTrainedTokenizerFast:
    """The tokenizer as transformers knows it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {token if token in SPECIAL else token.replace(" ", "Ġ"): index for token, index in vocabulary().items()}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=[chat.USER, chat.ASSISTANT],
        padding_side="left",
        model_max_length=256,
    )


def save(folder: Path) -> None:
    """Write the tokenizer's files."""
    build().save_pretrained(folder)
