"""Readout: the model's preference among the choices that stand with each example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from benchmark.contracts.example import Example, Goal
from benchmark.contracts.readout import Encoded, Last, Member, Reader, Readout
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.model.prompts import prompt_tokens
from benchmark.model.subject import Subject

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space in its tokens."""


@dataclass(frozen=True)
class Choices(Readout):
    """``(rows, choices)``: logits at the prompt's end where every choice is one token, the fast case.

    Else the log-probability of each choice behind the prompt, nats. The two agree in every difference of single tokens.
    A choice is tokenised by itself, so that the prompt is the same for all of them.
    """

    score: Literal["sum", "mean"] = "sum"
    """Of a choice of several tokens: their summed log-probability, or that over the number of tokens."""

    def encode(self, tokenizer: Any, example: Example) -> Encoded:
        """The prompt as the tokenizer encodes it (with its BOS), read after its last token; a suffix goes to the end.

        Raises:
            UsageError: a choice is no token, or one that the tokenizer does not know.
        """
        tokens = prompt_tokens(tokenizer, example.prompt, example.id)
        choices = tuple(_known(tokenizer, choice, example) for choice in example.choices)
        return Encoded(tokens, len(tokens) - 1, choices, len(tokens))

    def members(self, subject: Subject, task: Task, examples: Sequence[Example], goal: Goal) -> list[Member]:
        found = super().members(subject, task, examples, goal)
        return [m if _single(m) else m._replace(lines=_level(m.encoded.choices)) for m in found]

    def reader(self, subject: Subject, task: Task) -> Callable[[Sequence[Member]], Reader]:
        def make(members: Sequence[Member]) -> Reader:
            if all(_single(m) for m in members):
                return TokenReader(_tensor(subject, [[c[0] for c in m.encoded.choices] for m in members]))
            lengths = _tensor(subject, [[len(c) for c in m.encoded.choices] for m in members])
            return LineReader(_tensor(subject, [m.lines for m in members]), lengths, self.score == "mean")

        return make

    def log_mass(self, reader: Any, read: Tensor, last: Last, rows: Tensor) -> Tensor:
        """Log-probability that the model goes on with any of the choices."""
        return reader.log_mass(read, last, rows)


@dataclass(frozen=True, eq=False)
class TokenReader:
    """Logits of each row's choices, one token each: (rows, choices)."""

    tokens: Tensor
    """(n, choices), token ids."""
    boundary: None = None

    def __call__(self, last: Last | None, stream: Tensor | None, rows: Tensor) -> Tensor:
        assert last is not None
        return last.few(self.tokens[rows]).float()

    def log_mass(self, read: Tensor, last: Last, rows: Tensor) -> Tensor:
        """(rows,), nats: log of the total probability of the choices."""
        return read.logsumexp(1) - last.every()[:, 0].float().logsumexp(1)

    def part(self, index: Tensor) -> TokenReader:
        return TokenReader(self.tokens[index])


@dataclass(frozen=True, eq=False)
class LineReader:
    """Log-probability of each row's choices, a line each: (rows, choices)."""

    tokens: Tensor
    """(n, choices, tokens); behind a shorter choice's end, anything."""
    lengths: Tensor
    """(n, choices): tokens of each choice."""
    mean: bool
    boundary: None = None

    def __call__(self, last: Last | None, stream: Tensor | None, rows: Tensor) -> Tensor:
        assert last is not None
        tokens, lengths = self.tokens[rows], self.lengths[rows]
        own = last.every().float().log_softmax(-1).gather(-1, tokens.flatten(0, 1)[..., None])[..., 0]
        inside = torch.arange(tokens.shape[2], device=own.device) < lengths[..., None]
        total = (own.view(tokens.shape) * inside).sum(-1)
        return total / lengths if self.mean else total

    def log_mass(self, read: Tensor, last: Last, rows: Tensor) -> Tensor:
        """(rows,), nats: log of the total probability of the choices."""
        return (read * self.lengths[rows] if self.mean else read).logsumexp(1)

    def part(self, index: Tensor) -> LineReader:
        return LineReader(self.tokens[index], self.lengths[index], self.mean)


def _known(tokenizer: Any, choice: str, example: Example) -> tuple[int, ...]:
    ids = _ids(tokenizer, choice)
    if not ids or tokenizer.unk_token_id in ids:
        raise UsageError(
            f"{example.id}: the choice {choice!r} is "
            + ("no token" if not ids else "unknown to")
            + " of this tokenizer; write it as the model would (with its leading space?), or choose other texts"
        )
    return ids


@lru_cache(maxsize=4096)
def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The same few answers are asked for again and again.

    Some tokenizers put a space before every text that they get; to them " time" by itself has two, and is no text that
    goes on with a word.
    """
    bare = tuple(tokenizer(text[1:], add_special_tokens=False)["input_ids"]) if text.startswith(" ") else ()
    if bare and tokenizer.convert_ids_to_tokens(bare[0]).startswith(SPACE):
        return bare
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _single(member: Member) -> bool:
    return all(len(choice) == 1 for choice in member.encoded.choices)


def _level(choices: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """The choices at the length of the longest; what is read of the shorter ones ends before."""
    longest = max(map(len, choices))
    return tuple((*choice, *choice[-1:] * (longest - len(choice))) for choice in choices)


def _tensor(subject: Subject, rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.long, device=subject.device)
