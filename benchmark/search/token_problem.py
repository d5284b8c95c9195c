"""A recovery problem over typed tokens: a suffix of one length for every row, with the model and its tokenizer hidden.

Rows are a grid ``(examples, restarts)``. To the model a token of the suffix is a write of its embedding, less that of
the token that holds its place, so the passes are those of the other problems, with the defense live everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.contracts.readout import Criteria
from benchmark.contracts.task import Task
from benchmark.model.lexicon import Lexicon
from benchmark.model.pack import Pack
from benchmark.model.passes import Pass
from benchmark.model.typing_back import Typist
from benchmark.search.draws import generator
from benchmark.search.oracle import Oracle, Slope, State
from benchmark.search.pack_size import PackSize


class TokenProblem(Oracle):
    """Maximise the task's objective over the tokens of a suffix."""

    def __init__(
        self,
        run: Pass,
        pack: Pack,
        task: Task,
        criteria: Criteria,
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
        device, examples = criteria.answer.device, len(keys)
        example = torch.arange(examples, device=device).repeat_interleave(restarts)
        super().__init__(run, task, criteria, example, pack_size)
        self._lexicon, self._typist = lexicon, typist
        self.grid = (examples, restarts)
        self.length = length
        self.restart = torch.arange(restarts, device=device).repeat(examples)
        """Index of each row's restart (rows,)."""
        more = torch.full((examples, length - begin.shape[1]), lexicon.neutral if length else 0)
        self.start = torch.cat([begin.cpu(), more], 1).to(device)[self.example]
        """The best shorter suffix, lengthened by a neutral token (rows, n)."""
        self._placeholder = lexicon.vectors(pack.ids[:: pack.lines, pack.suffix_at : pack.suffix_at + length])
        self._chance = [generator(f"{key}|{length}|{r}") for key in keys for r in range(restarts)]

    def nothing(self) -> Tensor:
        """The best shorter suffix, lengthened by a neutral token: no suffix at all where there is none."""
        return self.start

    @property
    def allowed(self) -> Tensor:
        """(vocabulary,) bool: the tokens that may be typed."""
        return self._lexicon.allowed

    def random(self, count: int, rows: Tensor | None = None) -> Tensor:
        """The next ``count`` uniform numbers in [0, 1) of every row: (rows, count); a row's are its own."""
        index = self._every(rows)
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
        return self._typist.faithful(tokens, self.example[self._every(rows)])

    def evaluate(self, tokens: Tensor, rows: Tensor | None = None) -> State:
        """Objective and success of suffixes (rows, n) at the rows ``rows``, each as often as it is named there."""
        index = self._every(rows)
        return self._judge(lambda part: self._delta(tokens[part], index[part]), index)

    def slope(self, tokens: Tensor, rows: Tensor | None = None) -> Slope:
        """Objective, success, and the gradient with respect to the suffix's embeddings (rows, n, d_model), which
        ``substitutes`` reads."""
        index = self._every(rows)
        state, gradient = self._climb(lambda part: self._delta(tokens[part], index[part]), index)
        return Slope(state, gradient[:, 0])

    def _delta(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """The write that puts the tokens into their place, (rows, 1, n, d_model)."""
        return (self._lexicon.vectors(tokens) - self._placeholder[self.example[rows]])[:, None]
