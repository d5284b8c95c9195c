"""What tasks over a few single-token choices share: encoding and the margin of a choice."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from benchmark.contracts import Encoded, Example
from benchmark.errors import UsageError


def encode_choices(tokenizer: Any, example: Example) -> Encoded:
    """The prompt as the tokenizer encodes it (with its BOS), read after its last token; a suffix goes to the end.

    Raises:
        UsageError: a choice is not exactly one token.
    """
    tokens = tuple(tokenizer(example.prompt)["input_ids"])
    choices = tuple(_token(tokenizer, choice, example) for choice in example.choices)
    return Encoded(tokens, len(tokens) - 1, choices, len(tokens))


def _token(tokenizer: Any, choice: str, example: Example) -> int:
    ids = _ids(tokenizer, choice)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise UsageError(f"{example.id}: the choice {choice!r} is not one token of this tokenizer, but {len(ids)}")
    return ids[0]


@lru_cache(maxsize=4096)
def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The same few answers are asked for again and again."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def choice_margin(read: Tensor, target: Tensor) -> Tensor:
    """Logit of the target minus the largest other one: ``read`` (rows, choices), ``target`` (rows,) -> (rows,)."""
    chosen = torch.nn.functional.one_hot(target, read.shape[1]).bool()
    return read.gather(1, target[:, None])[:, 0] - read.masked_fill(chosen, -torch.inf).amax(1)
