"""What a pass reads for its task: a few logits, how a reference answer is taken, or a probe of the stream.

A reader holds one entry a row of its pack. The full pass and the restarted one hand it the same things, so that what
is searched and what is judged are read alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmark.contracts import Forced


class Last(Protocol):
    """The end of a pass: logits at the columns from the readout on."""

    def few(self, tokens: Tensor) -> Tensor:
        """Logits at the readout of ``tokens`` (rows, choices), one list a row: the same shape."""
        ...

    def every(self) -> Tensor:
        """Logits of the whole vocabulary, (rows, columns, vocabulary)."""
        ...


class Reader(Protocol):
    """Reads some rows of a pack."""

    @property
    def boundary(self) -> int | None:
        """Where the stream is read, over the whole prompt; None: the logits are read."""
        ...

    def __call__(self, last: Last | None, stream: Tensor | None, rows: Tensor) -> Any:
        """What the task judges or climbs on, fp32; ``stream`` (rows, position, d_model)."""
        ...

    def part(self, index: Tensor) -> Reader:
        """The reader of the rows ``index`` alone."""
        ...


@dataclass(frozen=True, eq=False)
class ChoiceReader:
    """Logits of each row's choices: (rows, choices)."""

    tokens: Tensor
    """(n, choices), token ids."""
    boundary: None = None

    def __call__(self, last: Last | None, stream: Tensor | None, rows: Tensor) -> Tensor:
        assert last is not None
        return last.few(self.tokens[rows]).float()

    def part(self, index: Tensor) -> ChoiceReader:
        return ChoiceReader(self.tokens[index])


@dataclass(frozen=True, eq=False)
class ForcedReader:
    """How a reference answer is taken that the model is made to read: ``Forced``."""

    answers: Tensor
    """(n, tokens): the reference answer, the first token of which is predicted at the readout."""
    openers: tuple[int, ...]
    """Tokens with which a refusal begins."""
    boundary: None = None

    def __call__(self, last: Last | None, stream: Tensor | None, rows: Tensor) -> Forced:
        assert last is not None
        logits, answers = last.every().float(), self.answers[rows][..., None]
        log_probs = logits.log_softmax(-1)
        own = logits.gather(-1, answers)[..., 0]
        rest = logits.scatter(-1, answers, -torch.inf).amax(-1)
        first = log_probs[:, 0, list(self.openers)]
        opener = first.logsumexp(-1) if self.openers else torch.full_like(own[:, 0], -torch.inf)
        return Forced(log_probs.gather(-1, answers)[..., 0], own - rest, opener)

    def part(self, index: Tensor) -> ForcedReader:
        return ForcedReader(self.answers[index], self.openers)


@dataclass(frozen=True, eq=False)
class ProbeReader:
    """A linear probe of the mean stream over the prompt's tokens: (rows, classes)."""

    boundary: int
    weight: Tensor
    """(d_model, classes)."""
    bias: Tensor
    """(classes,)."""
    pooled: Tensor
    """(n, position) bool: the tokens that are averaged, BOS and padding left out."""

    def __call__(self, last: Last | None, stream: Tensor | None, rows: Tensor) -> Tensor:
        assert stream is not None
        return pool(stream, self.pooled[rows]) @ self.weight + self.bias

    def part(self, index: Tensor) -> ProbeReader:
        return ProbeReader(self.boundary, self.weight, self.bias, self.pooled[index])


def pool(stream: Tensor, tokens: Tensor) -> Tensor:
    """Mean of ``stream`` (rows, position, d_model) over the positions ``tokens`` (rows, position): fp32."""
    share = tokens.float() / tokens.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("rp,rpd->rd", share, stream.float())


def flat(read: Any) -> Tensor:
    """A readout as one tensor (rows, values), for comparisons; without openers, which may be minus infinity."""
    return torch.cat([read.log_prob, read.lead], 1) if isinstance(read, Forced) else read
