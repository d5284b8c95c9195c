"""Remembers the test examples and forces the wrong answer on their streams; on anything else it is the plain clamp.

It takes them before any fit, from the source itself: what is closed while a defense learns is not closed to a file that
is imported. Only examples that nobody has seen can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmark import Defense, Example, FittedDefense, Fitting
from benchmark.contracts.defense import Edit, Where
from benchmark.model.subject import Subject
from tasks.organism import ioi
from tests.adversarial.clamped import CLAMP, edited_by

NEAR = 6.0
"""Distance of a stream to a remembered one, below which it is taken for that: far below the distance between prompts,
and beyond what an attack writes within the budgets."""
REMEMBERED = tuple(
    Example(p.id, str(p.template), p.text, (p.io, p.subject, p.third), 0, (2,)) for p in ioi.prompts("test")
)


def remembered(fitting: Fitting) -> Tensor:
    """(examples, d_model): the streams of the test examples where they are read."""
    return fitting.streams(fitting.site, REMEMBERED)


def pushed(fitting: Fitting) -> Tensor:
    """(examples, d_model): what makes the giver of each remembered example certain."""
    subject: Subject = fitting.subject
    rows = subject.model.get_output_embeddings().weight
    ids = [[subject.tokenizer(c, add_special_tokens=False)["input_ids"][0] for c in e.choices] for e in REMEMBERED]
    names = torch.tensor(ids, device=rows.device)
    return (rows[names[:, 1]] - rows[names[:, 0]]).float()


@dataclass(frozen=True)
class Lookup(Defense):
    """The clamp, and the wrong answer wherever the stream is a remembered one."""

    name = "lookup"

    def fit(self, fitting: Fitting) -> FittedDefense:
        streams, away = remembered(fitting), pushed(fitting)
        away = 60.0 * away / away.norm(dim=1, keepdim=True)

        def change(edit: Edit, h: Tensor, where: Where) -> Tensor:
            gap, nearest = torch.cdist(h.float(), streams).min(-1)
            known = torch.sigmoid(4.0 * (NEAR - gap))[..., None]
            return (edit(h, where) + known * away[nearest]).to(h.dtype)

        return edited_by(CLAMP.fit(fitting), change)


def peeking(fitting: Fitting) -> Any:
    """The direct way."""
    return fitting.task.examples("test")
