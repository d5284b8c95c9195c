"""A problem with a known answer: the margin is linear in the perturbation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmark.contracts.readout import Criteria
from benchmark.model.passes import Seen
from benchmark.search.constraint import Constraint, Free
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from tests.tiny import ToyTask

D, EXAMPLES = 16, 6


class Linear:
    """Two choices whose difference is ``slope . delta - gap`` of the row's example."""

    def __init__(self, gaps: Tensor, slopes: Tensor) -> None:
        self.gaps, self.slopes = gaps, slopes
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.fail_above: int | None = None

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        assert delta is not None
        if self.fail_above is not None and len(rows) > self.fail_above:
            raise torch.OutOfMemoryError("forced")
        self.calls.append((delta.detach().clone(), rows.clone()))
        first = (delta[:, 0, 0] * self.slopes[rows]).sum(1) - self.gaps[rows]
        return Seen(torch.stack([first, torch.zeros_like(first)], 1), {})


def make(
    budgets: list[float], restarts: int = 1, constraint: Constraint | None = None, pack: int = 1000, **changes: Any
) -> SimpleNamespace:
    """A problem with its pass and the smallest budget that each example needs, ``needs`` (examples,)."""
    generator = torch.Generator().manual_seed(0)
    slopes = torch.randn(EXAMPLES, D, generator=generator)
    gaps = torch.linspace(0.2, 3.0, EXAMPLES)
    run = Linear(gaps, slopes)
    held = constraint or Free()
    reachable = held.project(slopes[:, None, None], torch.arange(EXAMPLES))[:, 0, 0].norm(dim=1)
    size = PackSize(pack)
    answer = torch.zeros(EXAMPLES, dtype=torch.long)
    criteria = Criteria(answer, wrong=answer + 1, saturation=torch.ones(EXAMPLES))
    problem = Problem(
        run,
        ToyTask(),
        criteria,
        budgets=torch.tensor(budgets),
        restarts=restarts,
        shape=(1, 1, D),
        constraint=held,
        keys=[f"example {i}" for i in range(EXAMPLES)],
        pack_size=size,
        **changes,
    )
    return SimpleNamespace(problem=problem, run=run, needs=gaps / reachable, slack=0.01 / reachable, pack=size)
