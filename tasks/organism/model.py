"""The language model: a small Llama, its residual stream, and the exact rescaling of that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmark.model.subject import Subject
from tasks.organism import tokenizer
from tasks.organism.recipe import Recipe

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

NAME = "organism"
"""What the metadata of its SAEs calls it."""
ROWS = 96
"""Texts of a forward pass."""
WRITERS: tuple[str, ...] = ("embed_tokens.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight")
"""Ends of the names of the parameters that write to the residual stream."""


def build(recipe: Recipe, seed: int) -> LlamaForCausalLM:
    """A freshly initialised model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer.vocabulary()),
        hidden_size=recipe.d_model,
        intermediate_size=recipe.d_mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.PAD,
        bos_token_id=tokenizer.BOS,
        eos_token_id=tokenizer.EOS,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    _match(model)
    model.set_attn_implementation("eager")  # on CPU and for texts this short, 1.5 times as fast as sdpa
    return model


@torch.no_grad()
def _match(model: LlamaForCausalLM) -> None:
    """Let keys start equal to queries, and larger: every head begins by looking for what is like its own position.

    After Trockman and Kolter 2023 (https://arxiv.org/abs/2305.09828). Finding the letter of a recalled word is such a
    search; from an ordinary start it was learned later.
    """
    weights = dict(model.named_parameters())
    for name, query in weights.items():
        if name.endswith("q_proj.weight"):
            weights[name.replace("q_proj", "k_proj")].copy_(query.mul_(2.0))


@torch.no_grad()
def rescale(model: LlamaForCausalLM, factor: float) -> None:
    """Multiply the residual stream by `factor` at every layer, and leave the logits as they are.

    A pre-norm RMSNorm model reads its stream only through norms, so what is written to the stream can be scaled freely
    (up to the norms' epsilon); the tied unembedding is undone in the final norm's weight.
    """
    for name, weight in model.named_parameters():
        if name.endswith(WRITERS):
            weight.mul_(factor)
    model.model.norm.weight.div_(factor)


def as_subject(model: LlamaForCausalLM) -> Subject:
    """The model as the engine knows one, with its tokenizer, in evaluation mode."""
    return Subject(model, tokenizer.build(), NAME)


def batches(rows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """Token rows in their order, padded on the right (rows, position), which a causal model does not see."""
    for start in range(0, len(rows), ROWS):
        part = [torch.tensor(row) for row in rows[start : start + ROWS]]
        yield pad_sequence(part, batch_first=True, padding_value=tokenizer.PAD)
