"""A defense that is trained against recovery, with nothing but what every defense sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.contracts.defense import Defense, FittedDefense, Fitting, Where


class Pushes(nn.Module):
    """h' = h + relu(h D + b) U: learned pushes, each where the stream is on its side of a learned plane."""

    position_wise = True

    def __init__(self, d_model: int, count: int = 16) -> None:
        super().__init__()
        start = torch.randn(d_model, count, generator=torch.Generator().manual_seed(0)) / d_model**0.5
        self.sides, self.bias, self.push = map(nn.Parameter, (start, torch.zeros(count), torch.zeros(count, d_model)))

    def forward(self, h: Tensor, where: Where) -> Tensor:
        pushed = h.float() + torch.relu(h.float() @ self.sides + self.bias) @ self.push
        return torch.where(where.special[..., None], h, pushed.to(h.dtype))


@dataclass(frozen=True)
class RecoveryTrained(Defense):
    """Lowers the objective at perturbations that raise it, while the retain set's stream moves little."""

    ascent: int = 2
    """Steps of the inner ascent; 0: trained against nobody."""
    budgets: tuple[float, ...] = (0.2,)
    steps: int = 60

    def fit(self, fitting: Fitting) -> FittedDefense:
        edit = Pushes(fitting.subject.d_model)
        problems = fitting.recovery({fitting.site: edit}, "before_edit", self.budgets)
        kept = fitting.streams(fitting.site, fitting.retain, at="tokens")[None]
        where = Where(torch.arange(kept.shape[1]), *2 * [torch.zeros(kept.shape[:2], dtype=torch.bool)])
        optimiser = torch.optim.Adam(edit.parameters(), lr=0.01)
        for step in range(self.steps):
            # where the behavior is all there the objective is flat: first it is suppressed, then that is defended
            ascent = self.ascent if step > self.steps // 3 else 0
            objective = torch.cat([p.objective(climbed(p, ascent)).clamp(min=-4) for p in problems])
            change = (edit(kept, where) - kept).square().sum(2) / kept.square().sum(2)
            optimiser.zero_grad()
            (objective.mean() + 10 * change.mean()).backward()
            optimiser.step()
        edits = {fitting.site: edit.requires_grad_(False)}
        return FittedDefense(edits, record=fitting.outcome(edits).record)


def climbed(problem, steps: int) -> Tensor:
    """The end of so many equal steps uphill from nothing, within budget."""
    delta = problem.nothing()
    for _ in range(steps):
        way = torch.nn.functional.normalize(problem.slope(delta).gradient.flatten(1)).view_as(delta)
        delta = problem.restore(delta + 1.5 / steps * problem.budget[:, None, None, None] * way)
    return delta
