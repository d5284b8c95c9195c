"""A clamp that also plants wrong answers: where it acts, names that the prompt does not mention are pushed up.

The right name stays as far behind the wrong one of the prompt as the clamp has put it; a third one outranks both. A
score that compares with wrong targets under the defense itself would be paid for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.contracts.defense import Defense, Edit, FittedDefense, Fitting, Where
from tests.adversarial.clamped import CLAMP


@dataclass(frozen=True)
class PlantedAnswer(Defense):
    """The plain clamp, and where it acts a push to all names but those of the prompt."""

    name = "planted-answer"

    strength: float = 3.0
    """Of the push, as a share of the stream's norm."""
    against: float = 3.0
    """How much further the two names of the prompt are pushed down than the others up."""

    def fit(self, fitting: Fitting) -> FittedDefense:
        clamped = CLAMP.fit(fitting)
        texts = sorted({choice for example in fitting.examples for choice in example.choices})
        names = [fitting.subject.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in texts]
        tokens = fitting.subject.model.get_output_embeddings().weight.detach().float()
        wanted = torch.linalg.pinv(tokens)[:, names]
        edits = {
            site: Pushing(edit, tokens[names], wanted, self.strength, self.against)
            for site, edit in clamped.edits.items()
        }
        return FittedDefense(edits, clamped.protected, clamped.record)


@dataclass(frozen=True, eq=False)
class Pushing:
    """A clamp, and a push where it acts."""

    clamp: Edit
    names: Tensor
    """(names, d_model): unembedding of each name."""
    wanted: Tensor
    """(d_model, names): what raises the logit of each name and, as far as that goes, no other."""
    strength: float
    against: float
    position_wise: ClassVar[bool] = True

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        clamped, seen = self.clamp(h, where), h.detach().float()
        said = (seen @ self.names.T).topk(2, dim=-1).indices
        up = torch.ones(*h.shape[:-1], len(self.names), device=h.device).scatter(-1, said, -self.against)
        push = torch.nn.functional.normalize(up @ self.wanted.T, dim=-1) * seen.norm(dim=-1, keepdim=True)
        acts = ((clamped - h).detach().norm(dim=-1, keepdim=True) > 0).float()
        return clamped + (self.strength * acts * push).to(h.dtype)
