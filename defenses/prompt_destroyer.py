"""Control: the model hardly sees the prompt, so no behavior is left to attack, and nothing else either."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.errors import UsageError
from benchmark.registry import register_defense
from defenses.schedule import Schedule, Scheduled
from defenses.sites import parse_site


@register_defense("prompt-destroyer")
@dataclass(frozen=True)
class PromptDestroyer(Defense):
    """Every prompt position's stream is replaced by the mean one of ``fit``, but for a trace."""

    site: str = "blocks.0.hook_resid_pre"
    """By default what enters the first layer; later layers would still attend to what earlier ones made of the
    prompt."""
    trace: float = 1e-3
    """Share of each position's deviation from the mean that is left: without it no gradient would pass, and the attack
    would fail for a reason that has nothing to do with robustness."""
    schedule: str = "prompt"
    """always | prompt | generated | every:n."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)
        parse_site(self.site)
        if not 0 < self.trace < 1:
            raise UsageError(f"trace is {self.trace}; give a share in (0, 1)")

    def fit(self, fitting: Fitting) -> FittedDefense:
        site = parse_site(self.site)
        mean = fitting.streams(site, [*fitting.examples, *fitting.retain], at="tokens").mean(0)
        change = partial(towards, mean=mean, trace=self.trace)
        edits = {site: Scheduled(change, Schedule.parse(self.schedule))}
        record = {"site": str(site), "trace": self.trace, **fitting.outcome(edits).record}
        return FittedDefense(edits, record=record)


def towards(h: Tensor, mean: Tensor, trace: float) -> Tensor:
    """``mean`` (d_model,) and a ``trace`` of how ``h`` (..., d_model) deviates from it."""
    return torch.lerp(mean, h, trace)
