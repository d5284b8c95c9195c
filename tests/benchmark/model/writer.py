"""Tiny models that write on and on, and an edit of what they write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.contracts.defense import Where
from benchmark.model.subject import Subject
from tests import tiny

FAMILIES = ("gpt2", "llama", "gemma2")
LENGTH, NEW, LAYER = 7, 5, 2
"""Tokens of a prompt and of an answer; where the stream is edited."""


def writer(family: str) -> Subject:
    """A model without an end token; an answer's text is its token ids."""
    made = tiny.subject(family)
    made.tokenizer.eos_token_id = None
    made.tokenizer.decode = lambda tokens, **_: " ".join(map(str, tokens))
    made.model.generation_config.eos_token_id = None
    return made


def prompts(rows: int = 3) -> Tensor:
    """Random tokens (rows, LENGTH)."""
    return torch.randint(5, 50, (rows, LENGTH), generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Push:
    """Adds a direction at generated positions only."""

    size: float
    position_wise: ClassVar[bool] = True

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        push = torch.linspace(-1, 1, h.shape[-1]).cos() * self.size
        return h + where.generated[..., None] * push
