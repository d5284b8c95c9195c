"""A defense that is trained against recovery, with nothing but what every defense sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.contracts.defense import Defense, FittedDefense, Fitting, Where
from benchmark.search.problem import Problem


class Pushes(nn.Module):
    """h' = h + relu(h D + b) U: 16 learned pushes, each where the stream is on its side of a learned plane."""

    position_wise = True

    def __init__(self, d_model: int) -> None:
        super().__init__()
        start = torch.randn(d_model, 16, generator=torch.Generator().manual_seed(0)) / d_model**0.5
        self.sides, self.bias, self.push = map(nn.Parameter, (start, torch.zeros(16), torch.zeros(16, d_model)))

    def forward(self, h: Tensor, where: Where) -> Tensor:
        pushed = h.float() + torch.relu(h.float() @ self.sides + self.bias) @ self.push
        return torch.where(where.special[..., None], h, pushed.to(h.dtype))


@dataclass(frozen=True)
class RecoveryTrained(Defense):
    """Lowers the objective at perturbations that raise it, while the retain set's stream moves little."""

    ascent: int = 2
    """Steps of the inner ascent; 0: trained against nobody."""

    def fit(self, fitting: Fitting) -> FittedDefense:
        edit = Pushes(fitting.subject.d_model)
        problems = fitting.recovery({fitting.site: edit}, "before_edit", [0.2])
        kept = fitting.streams(fitting.site, fitting.retain, at="tokens")[None]
        where = Where(torch.arange(kept.shape[1]), *2 * [torch.zeros(kept.shape[:2], dtype=torch.bool)])
        optimiser = torch.optim.Adam(edit.parameters(), lr=0.01)
        for step in range(40):
            # the objective is flat where the behavior is all there: first it is suppressed, then that is defended
            attacked = [(p, climbed(p, self.ascent if step > 13 else 0)) for p in problems]
            objective = torch.cat([p.objective(delta).clamp(min=-4) for p, delta in attacked]).mean()
            change = ((edit(kept, where) - kept).square().sum(2) / kept.square().sum(2)).mean()
            optimiser.zero_grad()
            (objective + 10 * change).backward()
            optimiser.step()
        return FittedDefense({fitting.site: edit.requires_grad_(False)})


def climbed(problem: Problem, steps: int) -> Tensor:
    """The end of some equal steps uphill from nothing, within budget."""
    delta = problem.nothing()
    for _ in range(steps):
        way = nn.functional.normalize(problem.slope(delta).gradient.flatten(1)).view_as(delta)
        delta = problem.restore(delta + 1.5 / steps * problem.budget[:, None, None, None] * way)
    return delta
