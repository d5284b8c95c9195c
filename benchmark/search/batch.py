"""Problems whose prompts differ in length, searched as one: a pass over few rows costs nearly what one over many does.

Every problem keeps what is its own: its examples, how they are read and judged, its witness and its bill.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import accumulate, groupby

import torch
from torch import Tensor

from benchmark.contracts.attack import Attack, Attempt
from benchmark.model.tail import TailBatch
from benchmark.search.oracle import Slope, State
from benchmark.search.problem import Problem


def attempts(attack: Attack, problems: Sequence[Problem], *, together: bool) -> list[Attempt]:
    """What ``attack`` proposes for each problem; ``together``: those that can be are searched as one."""
    found = dict[int, Attempt]()
    for alike in _alike(problems) if together else [[i] for i in range(len(problems))]:
        some = [problems[i] for i in alike]
        found |= zip(alike, [attack.run(some[0])] if len(some) == 1 else Batch(some).attempts(attack), strict=True)
    return [found[i] for i in range(len(problems))]


def _alike(problems: Sequence[Problem]) -> list[list[int]]:
    """The problems by whether they can be searched as one, in their order."""
    forms = [problem.form or i for i, problem in enumerate(problems)]
    order = sorted(range(len(problems)), key=lambda i: forms.index(forms[i]))
    return [list(alike) for _, alike in groupby(order, key=lambda i: forms[i])]


class Batch(Problem):
    """Problems of one attack on one defense, all of one ``form``."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        _, levels, restarts = first.grid
        super().__init__(
            first._run,
            first._task,
            first._criteria,
            budgets=first.budget[: levels * restarts : restarts],
            restarts=restarts,
            shape=first._shape,
            constraint=first.constraint,
            keys=[key for problem in problems for key in problem._keys],
            pack_size=first._pack_size,
        )
        self.problems = problems
        self._tails = TailBatch([problem._run for problem in problems])  # pyright: ignore[reportArgumentType]
        sizes = [problem.grid[0] for problem in problems]
        device = self.example.device
        self._owner = torch.arange(len(problems), device=device).repeat_interleave(torch.tensor(sizes, device=device))
        """(examples,): the problem that each belongs to."""
        self._begin = [0, *accumulate(sizes)]
        """The first example of each."""
        self.witness = self._tell

    def attempts(self, attack: Attack) -> list[Attempt]:
        """What the attack proposes for each problem, which is billed for it."""
        attempt = attack.run(self)
        parts = [self._rows(k) for k in range(len(self.problems))]
        for problem, rows in zip(self.problems, parts, strict=True):
            problem.forwards += self.forwards[rows]
            problem.backwards += self.backwards[rows]
            problem.slopes += self.slopes[rows]
            problem.blind |= self.blind[rows]
        return [Attempt(attempt.proposal[rows], attempt.converged[rows]) for rows in parts]

    def penalised(self, weight: float) -> Batch:
        made = copy(self)
        made.problems = [problem.penalised(weight) for problem in self.problems]
        made.witness = None if weight else self.witness
        return made

    def _rows(self, k: int) -> slice:
        each = self.grid[1] * self.grid[2]
        return slice(self._begin[k] * each, self._begin[k + 1] * each)

    def _read(self, delta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        example = self.example[rows]
        places = {k: own for k, own in self._by_owner(example)}
        asked = {k: (delta[own], example[own] - self._begin[k]) for k, own in places.items()}
        seen = self._tails(asked, self.problems[0].observe)
        judged = [self.problems[k].judged(seen[k], index) for k, (_, index) in asked.items()]
        back = torch.cat([*places.values()]).argsort()
        objective, reached = (torch.cat(values)[back] for values in zip(*judged, strict=True))
        return objective, reached

    def _by_owner(self, example: Tensor) -> list[tuple[int, Tensor]]:
        """Each problem that some of the examples belong to, and which of them do; a device is waited for once."""
        owner = self._owner[example]
        counts = torch.bincount(owner, minlength=len(self.problems)).tolist()
        parts = owner.argsort(stable=True).split(counts)
        return [(k, own) for k, own in enumerate(parts) if len(own)]

    def _tell(self, rows: Tensor, delta: Tensor, slope: Slope) -> None:
        """Every problem's witness is shown what is its own."""
        for k, own in self._by_owner(self.example[rows]):
            witness, (state, gradient) = self.problems[k].witness, slope
            if witness is not None:
                told = Slope(State(state.objective[own], state.reached[own]), gradient[own])
                witness(rows[own] - self._rows(k).start, delta[own], told)
