"""The tokens that an attacker may type, and what each of them is to the first layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.model.edits import boundaries
from benchmark.model.subject import Subject

NEUTRAL = (" !", " the", " a", ".")
"""Texts to begin a suffix with, by preference; where none is one allowed token, the first allowed token is used."""
_CELLS = 2**26
"""Entries of a table (suffix positions x vocabulary) that is formed at once."""


@dataclass(frozen=True, eq=False)
class Lexicon:
    """A model's vocabulary from an attacker's side."""

    subject: Subject

    @cached_property
    def allowed(self) -> Tensor:
        """(vocabulary,) bool: ordinary tokens, each of which is what the tokenizer makes of its own text."""
        tokenizer = self.subject.tokenizer
        ids = range(min(len(tokenizer), self._weight.shape[0]))
        texts = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
        again = tokenizer(texts, add_special_tokens=False)["input_ids"]
        # what a tokenizer was given beside its vocabulary: markup, and places kept free for it
        added = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        kept = [back == [i] and i not in added for i, back in zip(ids, again, strict=True)]
        kept += [False] * (self._weight.shape[0] - len(kept))
        if not any(kept):
            raise UsageError(
                f"no token of {self.subject.name} comes back from its own text; "
                "token suffixes need some: leave that threat model out"
            )
        return torch.tensor(kept, device=self.subject.device)

    @cached_property
    def neutral(self) -> int:
        """A token that suffixes begin with."""
        for text in NEUTRAL:
            ids = self.subject.tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and self.allowed[ids[0]]:
                return int(ids[0])
        return int(self.allowed.int().argmax())

    def vectors(self, tokens: Tensor) -> Tensor:
        """What tokens bring to the first layer's input, but for what is the same for all: (..., d_model), fp32."""
        return self._scale * self._weight[tokens].float()

    def substitutes(self, gradient: Tensor, top: int) -> Tensor:
        """The allowed tokens with the largest first-order gain, best first: (rows, n, d_model) -> (rows, n, top).

        The gradient with respect to the one-hot token is that with respect to the embedding times all embeddings
        (arXiv 2307.15043); it is formed some rows at a time.
        """
        weight, size = self._weight.float(), max(1, _CELLS // (max(gradient.shape[1], 1) * len(self._weight)))
        found = []
        for part in gradient.split(size):
            gain = (part @ weight.T).masked_fill(~self.allowed, -torch.inf)
            found.append(gain.topk(min(top, int(self.allowed.sum())), dim=-1).indices)
        return torch.cat(found)

    @property
    def _weight(self) -> Tensor:
        return self.subject.model.get_input_embeddings().weight

    @cached_property
    def _scale(self) -> float:
        """By which the model multiplies its embeddings before the first layer (Gemma: the root of the width).

        Raises:
            UsageError: what enters the first layer is not a multiple of the embedding.
        """
        ids = self.allowed.nonzero()[[0, -1]]
        entered: list[Tensor] = []
        with torch.no_grad(), boundaries(self.subject, lambda b: b == 0, lambda b, h: entered.append(h) or h):
            self.subject.model(input_ids=ids, use_cache=False)
        # the difference of two tokens at one place: an embedding of the position drops out
        own = torch.diff(self._weight[ids[:, 0]].float(), dim=0)[0]
        met = torch.diff(entered[0][:, 0].float(), dim=0)[0]
        scale = float(met @ own / own.square().sum().clamp(min=1e-30))
        if (met - scale * own).norm() > 0.02 * met.norm():
            raise UsageError(
                f"the first layer of {self.subject.name} does not get its embeddings, "
                "which suffixes need; leave them out"
            )
        return scale
