"""A recovery problem over typed tokens: a suffix of one length for every row, with the model and its tokenizer hidden.

Rows are a grid ``(examples, restarts)``. To the model a token of the suffix is a write of its embedding, less that of
the token that holds its place, so the passes are those of the other problems, with the defense live everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts import Batch, Task
from benchmark.model.lexicon import Lexicon
from benchmark.model.pack import Pack
from benchmark.model.passes import Pass
from benchmark.model.typing_back import Typist
from benchmark.search.problem import PackSize, State, select


class TokenSlope(NamedTuple):
    """A state and the gradient of the objective there."""

    state: State
    gradient: Tensor
    """With respect to the suffix's embeddings, (rows, n, d_model); ``substitutes`` reads it."""


class TokenProblem:
    """Maximise the task's objective over the tokens of a suffix."""

    def __init__(
        self,
        run: Pass,
        pack: Pack,
        task: Task,
        batch: Batch,
        *,
        lexicon: Lexicon,
        typist: Typist,
        begin: Tensor,
        length: int,
        restarts: int,
        keys: Sequence[str],
        pack_size: PackSize,
    ) -> None:
        """``pack``: the examples with ``length`` tokens in the place of the suffix, which ``run`` writes over.

        ``begin``: the best shorter suffixes (examples, m <= length); ``keys``: one string an example, from which the
        row's random numbers are seeded.
        """
        self._run, self._task, self._batch, self._pack_size = run, task, batch, pack_size
        self._lexicon, self._typist = lexicon, typist
        device, examples = batch.answer.device, len(keys)
        self.grid = (examples, restarts)
        self.length = length
        self.example = torch.arange(examples, device=device).repeat_interleave(restarts)
        """Index of each row's example (rows,)."""
        self.restart = torch.arange(restarts, device=device).repeat(examples)
        """Index of each row's restart (rows,)."""
        more = torch.full((examples, length - begin.shape[1]), lexicon.neutral if length else 0)
        self.start = torch.cat([begin.cpu(), more], 1).to(device)[self.example]
        """The best shorter suffix, lengthened by a neutral token (rows, n)."""
        self._placeholder = lexicon.vectors(pack.ids[:, pack.suffix_at : pack.suffix_at + length])
        self._chance = [_generator(f"{key}|{length}|{r}") for key in keys for r in range(restarts)]
        self.forwards = torch.zeros(self.rows, dtype=torch.long, device=device)
        self.backwards = torch.zeros(self.rows, dtype=torch.long, device=device)
        self.blind = torch.zeros(self.rows, dtype=torch.bool, device=device)
        """Rows that met a zero or non-finite gradient: the attack could not see there."""

    @property
    def rows(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def allowed(self) -> Tensor:
        """(vocabulary,) bool: the tokens that may be typed."""
        return self._lexicon.allowed

    def random(self, count: int, rows: Tensor | None = None) -> Tensor:
        """The next ``count`` uniform numbers in [0, 1) of every row: (rows, count); a row's are its own."""
        index = self._all(rows)
        parts = [torch.rand(count, generator=self._chance[i]) for i in index.tolist()]
        return torch.stack(parts).to(index.device) if parts else torch.zeros(0, count, device=index.device)

    def draw(self, rows: Tensor | None = None) -> Tensor:
        """Random allowed tokens (rows, n)."""
        ids = self.allowed.nonzero()[:, 0]
        return ids[(self.random(self.length, rows) * len(ids)).long()]

    def substitutes(self, gradient: Tensor, top: int) -> Tensor:
        """The allowed tokens that promise most by a ``gradient`` (rows, n, d_model), best first: (rows, n, top)."""
        return self._lexicon.substitutes(gradient, top)

    def faithful(self, tokens: Tensor, rows: Tensor | None = None) -> Tensor:
        """(rows,) bool: the suffix, typed behind its prompt, is read as these very tokens; others are for nothing."""
        return self._typist.faithful(tokens, self.example[self._all(rows)])

    def evaluate(self, tokens: Tensor, rows: Tensor | None = None) -> State:
        """Objective and success of suffixes (rows, n) at the rows ``rows``, each as often as it is named there."""
        index = self._all(rows)
        objective = torch.empty(len(index), device=index.device)
        reached = torch.empty_like(index, dtype=torch.bool)

        def work(part: slice) -> None:
            with torch.no_grad():
                objective[part], reached[part] = self._judge(self._delta(tokens[part], index[part]), index[part])

        self._pack_size.split(len(index), work)
        self.forwards += torch.bincount(index, minlength=self.rows)
        return State(objective, reached)

    def slope(self, tokens: Tensor, rows: Tensor | None = None) -> TokenSlope:
        """Objective, success and gradient. Losses are per row and summed: a gradient never depends on the pack."""
        index = self._all(rows)
        objective = torch.empty(len(index), device=index.device)
        reached = torch.empty_like(index, dtype=torch.bool)
        gradient = torch.zeros(len(index), self.length, self._placeholder.shape[-1], device=index.device)

        def work(part: slice) -> None:
            at = self._delta(tokens[part], index[part]).requires_grad_()
            value, hit = self._judge(at, index[part])
            gradient[part] = torch.autograd.grad(value.sum(), at)[0][:, 0]
            objective[part], reached[part] = value.detach(), hit

        self._pack_size.split(len(index), work)
        self.forwards[index] += 1
        self.backwards[index] += 1
        size = gradient.flatten(1).norm(dim=1)
        self.blind[index] |= ((size == 0) | ~size.isfinite()) & ~reached
        return TokenSlope(State(objective, reached), gradient.nan_to_num(posinf=0.0, neginf=0.0))

    def _all(self, rows: Tensor | None) -> Tensor:
        return torch.arange(self.rows, device=self.example.device) if rows is None else rows

    def _delta(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """The write that puts the tokens into their place, (rows, 1, n, d_model)."""
        return (self._lexicon.vectors(tokens) - self._placeholder[self.example[rows]])[:, None]

    def _judge(self, delta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        example = self.example[rows]
        batch = select(self._batch, example)
        read = self._run(delta, example).read
        with torch.no_grad():
            reached = self._task.reached(read, batch)
        return self._task.objective(read, batch), reached


def _generator(key: str) -> torch.Generator:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)
