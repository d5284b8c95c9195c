"""The undefended or defended stream of some examples: at their readout, at all tokens, or with a gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.contracts.defense import Edit, Slopes
from benchmark.contracts.example import Example
from benchmark.contracts.readout import Criteria
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.model.edits import by_boundary
from benchmark.model.pack import Pack, make_packs
from benchmark.model.passes import FullPass, Writes
from benchmark.model.subject import Subject
from benchmark.sites import Site

ROWS = 256
"""Rows of a pass without gradients: forward only, so larger than an optimiser's pack needs no probing."""
NOWHERE = Writes((), 0, 0, after=False)

Objective = Callable[[Any, Criteria], Tensor]
"""What is read of a pack, and what it is judged against -> (rows,), differentiable."""


def whole(subject: Subject, pack: Pack, edits: Mapping[int, Edit]) -> FullPass:
    """A pass of a pack in which nothing is written."""
    return FullPass(subject, pack, edits, NOWHERE)


@torch.no_grad()
def readout_streams(
    subject: Subject,
    task: Task,
    examples: Sequence[Example],
    boundaries: frozenset[int],
    edits: Mapping[Site, Edit] | None = None,
) -> dict[int, Tensor]:
    """Boundary -> the stream at each example's readout position, (examples, d_model), fp32."""
    found: dict[int, dict[str, Tensor]] = {b: {} for b in boundaries}
    placed = by_boundary(subject, edits or {})
    for pack in make_packs(subject, task, examples, ROWS):
        run = FullPass(subject, pack, placed, Writes((), pack.readout, 1, after=False))
        seen = run(None, pack.everyone, boundaries)
        for b, stream in seen.stream.items():
            found[b] |= {e.id: h for e, h in zip(pack.examples, stream[:, 0].float(), strict=True)}
    return {b: torch.stack([rows[e.id] for e in examples]) for b, rows in found.items()}


@torch.no_grad()
def token_stream(
    subject: Subject, task: Task, examples: Sequence[Example], site: Site, edits: Mapping[Site, Edit]
) -> Tensor:
    """The stream at ``site`` under ``edits``, as the rest of the model gets it, at every token of ``examples`` but what
    a text begins with: (tokens, d_model), fp32."""
    placed, boundary = by_boundary(subject, edits), subject.check(site).boundary
    parts = [torch.empty(0, subject.d_model, device=subject.device)]
    for pack in make_packs(subject, task, examples, ROWS):
        stream = whole(subject, pack, placed).whole(None, pack.everyone, boundary)
        parts.append(stream[~pack.text.special].float())
    return torch.cat(parts)


def stream_gradients(subject: Subject, pack: Pack, boundaries: tuple[int, ...], objective: Objective) -> list[Slopes]:
    """At each boundary the undefended stream and the objective's gradient there, both (n, position, d_model).

    Raises:
        UsageError: what is read lies before all of them.
    """
    run = FullPass(subject, pack, {}, Writes(boundaries, 0, pack.length, after=False))
    shape = (len(pack), len(boundaries), pack.length, subject.d_model)
    zero = torch.zeros(shape, device=pack.ids.device, requires_grad=True)
    seen = run(zero, pack.everyone, frozenset(boundaries))
    value = objective(seen.read, pack.unread()).sum()
    if not value.requires_grad:
        raise UsageError(f"what is read does not depend on boundaries {boundaries} of the stream; name an earlier site")
    gradient = torch.autograd.grad(value, zero)[0]
    ordinary = ~pack.text.special
    return [Slopes(seen.stream[b].detach(), gradient[:, i], ordinary) for i, b in enumerate(boundaries)]


def residual_norms(subject: Subject, task: Task, examples: Sequence[Example]) -> dict[int, float]:
    """Boundary -> median L2 norm of the undefended residual stream at the readout position of ``examples``."""
    streams = readout_streams(subject, task, examples, frozenset(range(subject.n_layers + 1)))
    return {b: float(h.norm(dim=1).median()) for b, h in sorted(streams.items())}


@torch.no_grad()
def embedding_norm(subject: Subject, task: Task, examples: Sequence[Example]) -> float:
    """Median L2 norm of what enters the first layer, over the tokens of ``examples`` but the first position's."""
    parts = []
    for pack in make_packs(subject, task, examples, ROWS):
        stream = whole(subject, pack, {}).whole(None, pack.everyone, 0)
        parts.append(stream.float().norm(dim=-1)[~pack.text.special].cpu())
    return float(torch.cat(parts).median())
