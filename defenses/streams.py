"""The stream at all tokens of some examples: what means, erasers and monitors are fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from benchmark.contracts import Example, Task
from benchmark.model.edits import Edit, by_boundary
from benchmark.model.packs import make_packs
from benchmark.model.passes import FullPass, Writes
from benchmark.model.subject import Subject
from benchmark.sites import Site

_ROWS = 256


@torch.no_grad()
def token_stream(
    subject: Subject, task: Task, examples: Sequence[Example], site: Site, edits: Mapping[Site, Edit]
) -> Tensor:
    """The stream at ``site`` under ``edits``, as the rest of the model gets it, at every token of ``examples`` but BOS
    and padding: (tokens, d_model), fp32."""
    placed, boundary = by_boundary(subject, edits), subject.check(site).boundary
    parts = [torch.empty(0, subject.d_model, device=subject.device)]
    for pack in make_packs(subject, task, examples, _ROWS):
        run = FullPass(subject, pack, placed, Writes((), 0, 0, after=False))
        rows = torch.arange(len(pack), device=pack.ids.device)
        stream = run(None, rows, frozenset({boundary})).stream[boundary]
        parts.append(stream[~pack.where.special].float())
    return torch.cat(parts)
