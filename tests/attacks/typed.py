"""A token problem with a known answer, and a tokenizer that merges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from benchmark.contracts.example import Example, Split
from benchmark.contracts.readout import Criteria
from benchmark.model.lexicon import Lexicon
from benchmark.model.passes import Seen
from benchmark.model.subject import Subject
from benchmark.model.typing_back import Typist
from benchmark.search.pack_size import PackSize
from benchmark.search.token_problem import TokenProblem
from tests.tiny import ToyTask, model, pack, subject

TRIGGER = (17, 23)


class Planted:
    """The first choice wins once the suffix holds both trigger tokens; each of them brings half of the way.

    It is smooth, and all else matters a little: no two suffixes or places tie, or rounding would choose between them.
    """

    def __init__(self, lexicon: Lexicon, placeholder: Tensor) -> None:
        self.table = lexicon.vectors(torch.arange(len(lexicon.allowed)))
        shape = placeholder.shape[1], self.table.shape[1]
        self.whim = 0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(7))
        self.placeholder = self.table[placeholder]
        self.calls: list[int] = []
        self.fail_above: int | None = None

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        assert delta is not None
        if self.fail_above is not None and len(rows) > self.fail_above:
            raise torch.OutOfMemoryError("forced")
        self.calls.append(len(rows))
        written = delta[:, 0] + self.placeholder[rows]
        unit = torch.nn.functional.normalize(self.table[list(TRIGGER)], dim=1)
        like = torch.nn.functional.normalize(written, dim=-1) @ unit.T
        nearest = (20 * like).logsumexp(1) / 20
        first = 4 * nearest.sum(1) - 7 + (written * self.whim).sum((1, 2))
        return Seen(torch.stack([first, torch.zeros_like(first)], 1), {})


def make(length: int, restarts: int = 1, examples: int = 4, pack_rows: int = 1000) -> SimpleNamespace:
    """Examples of random prompts whose goal is the planted trigger."""
    made = subject()
    plain = pack(made, rows=examples)
    lexicon, suffixed = Lexicon(made), plain.with_suffix(length)
    run = Planted(lexicon, suffixed.ids[:, plain.suffix_at : plain.suffix_at + length])
    size = PackSize(pack_rows)
    ones = torch.ones(examples, dtype=torch.long)
    problem = TokenProblem(
        run,
        suffixed,
        ToyTask(),
        Criteria(torch.zeros_like(ones), ones, ones.float()),
        lexicon=lexicon,
        typist=Typist(made, plain),
        begin=torch.zeros(examples, 0, dtype=torch.long),
        length=length,
        restarts=restarts,
        keys=[f"example {i}" for i in range(examples)],
        pack_size=size,
    )
    return SimpleNamespace(problem=problem, run=run, lexicon=lexicon, pack=plain, size=size, subject=made)


def merging() -> Any:
    """Letters; a b is read as ab and c d as cd, while ef is a token that no text is ever read as."""
    letters = {letter: i + 3 for i, letter in enumerate("abcdefgh")}
    vocabulary = {"<pad>": 0, "<bos>": 1, "<eos>": 2, **letters, "ab": 11, "cd": 12, "ef": 13}
    made = Tokenizer(models.BPE(vocabulary, merges=[("a", "b"), ("c", "d")]))
    made.decoder = decoders.Fuse()  # type: ignore[assignment]
    made.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")


def merging_subject() -> Subject:
    """A tiny model whose tokenizer merges."""
    return Subject(model(), merging(), "merging")


class Letters(ToyTask):
    """The toy task in letters."""

    name = "letters"

    def examples(self, split: Split) -> Sequence[Example]:
        prompts = ["".join(p) for p in permutations("efgh")]
        return [Example(f"{split}/{p}", p, p, ("a", "c", "e"), 0, (1, 2)) for p in prompts]
