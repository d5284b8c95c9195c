"""Running the organism: residuals, next-token logits, greedy replies, and the SAE splice.

Texts are padded on the right, where a causal model does not see the padding; replies are generated in groups of equal
length, without any padding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import tokenizer
from .markup import words

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

BATCH = 96
"""Texts a forward pass."""
Edit = Callable[[Tensor], Tensor]
"""Residuals (rows, position, d_model) to residuals of the same shape."""


def encode(text: str) -> list[int]:
    """`<bos>` and the tokens of an unmarked text."""
    vocabulary = tokenizer.vocabulary()
    return [tokenizer.BOS, *(vocabulary[word] for word in words(text))]


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids padded on the right (rows, position), and the index of each row's last token (rows,)."""
    ids = torch.full((len(rows), max(map(len, rows))), tokenizer.PAD)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return ids, torch.tensor([len(tokens) - 1 for tokens in rows])


@contextmanager
def edited(model: LlamaForCausalLM, layer: int, edit: Edit) -> Iterator[None]:
    """Apply `edit` to the output of a block, except at `<bos>`."""

    def hook(module: object, inputs: object, output: Tensor) -> Tensor:
        keep = output.shape[1] > 1  # a generated token comes alone, and is not <bos>
        new = edit(output[:, 1:] if keep else output)
        return torch.cat([output[:, :1], new], dim=1) if keep else new

    handle = model.model.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def last_logits(model: LlamaForCausalLM, texts: Sequence[str]) -> Tensor:
    """Logits of the token after each text (rows, vocabulary)."""
    rows = []
    for start in range(0, len(texts), BATCH):
        ids, last = pad([encode(text) for text in texts[start : start + BATCH]])
        hidden = model.model(input_ids=ids.to(model.device), use_cache=False).last_hidden_state
        rows.append(model.lm_head(hidden[torch.arange(len(last)), last]).float().cpu())
    return torch.cat(rows)


@torch.no_grad()
def residuals(
    model: LlamaForCausalLM, rows: Sequence[Sequence[int]], layers: Sequence[int]
) -> Iterator[tuple[dict[int, Tensor], Tensor]]:
    """For each batch of token rows: block outputs by layer (rows, position, d_model), and the mask (rows, position) of
    real tokens, `<bos>` left out."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[[object, object, Tensor], None]:
        return lambda module, inputs, output: kept.update({layer: output.float().cpu()})

    handles = [model.model.layers[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        for start in range(0, len(rows), BATCH):
            ids, _ = pad(rows[start : start + BATCH])
            model.model(input_ids=ids.to(model.device), use_cache=False)
            yield dict(kept), (ids != tokenizer.PAD) & (ids != tokenizer.BOS)
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def replies(model: LlamaForCausalLM, texts: Sequence[str], limit: int = 100) -> list[str]:
    """Greedy continuation of each text up to `<eos>`."""
    groups: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for index, text in enumerate(texts):
        tokens = encode(text)
        groups[len(tokens)].append((index, tokens))
    inverse = {index: token for token, index in tokenizer.vocabulary().items()}
    result = [""] * len(texts)
    for group in groups.values():
        ids = torch.tensor([tokens for _, tokens in group], device=model.device)
        out = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False
        )
        for (index, tokens), row in zip(group, out.tolist(), strict=True):
            new = [token for token in row[len(tokens) :] if token not in (tokenizer.EOS, tokenizer.PAD)]
            result[index] = "".join(inverse[token] for token in new)
    return result
