"""An attacker's suffix as text: the prompt and the suffix are written out, and read again as if somebody typed them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.model.edits import untyped
from benchmark.model.pack import Pack
from benchmark.model.subject import Subject


class Typist:
    """Types suffixes behind the prompts of a pack."""

    def __init__(self, subject: Subject, pack: Pack) -> None:
        self.tokenizer = subject.tokenizer
        at = pack.suffix_at
        # the text begins behind its BOS, which nobody types; a chat's header behind the suffix is not typed either
        begins = untyped(subject, pack.ids[:: pack.lines, :at]).sum(1).tolist()
        prompts = pack.prompt.tolist()
        self.front = [ids[:begin] for ids, begin in zip(prompts, begins, strict=True)]
        self.text = [ids[begin:at] for ids, begin in zip(prompts, begins, strict=True)]
        self.back = [ids[at:] for ids in prompts]

    def prompts(self, tokens: Tensor, example: Tensor) -> list[tuple[int, ...]]:
        """The whole prompts as the tokenizer reads them with suffixes (rows, n) behind the examples (rows,)."""
        owners = example.tolist()
        written = [[*self.text[i], *suffix] for i, suffix in zip(owners, tokens.tolist(), strict=True)]
        if not written:
            return []
        texts = self.tokenizer.batch_decode(written, clean_up_tokenization_spaces=False)
        read = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [(*self.front[i], *ids, *self.back[i]) for i, ids in zip(owners, read, strict=True)]

    def faithful(self, tokens: Tensor, example: Tensor) -> Tensor:
        """(rows,) bool: what is read is what was meant, token by token."""
        meant = [
            (*self.front[i], *self.text[i], *suffix, *self.back[i])
            for i, suffix in zip(example.tolist(), tokens.tolist(), strict=True)
        ]
        same = [a == b for a, b in zip(self.prompts(tokens, example), meant, strict=True)]
        return torch.tensor(same, dtype=torch.bool, device=tokens.device)


def untypable(subject: Subject, packs: Sequence[Pack]) -> str | None:
    """Why suffixes cannot be typed behind some prompts; None: they can.

    A prompt that is read otherwise than it was written would change by being typed, with no suffix at all.
    """
    for pack in packs:
        empty, example = torch.zeros(len(pack), 0, dtype=torch.long), torch.arange(len(pack))
        if not Typist(subject, pack).faithful(empty, example).all():
            return f"the tokenizer of {subject.name} does not read its own text of a prompt as the same tokens"
    return None
