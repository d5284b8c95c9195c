"""Models of well-known shapes with random weights: what a model has learned does not change how long a step takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig

from benchmark.model.subject import Subject

LENGTH = 64
"""Tokens of a prompt; the last one is perturbed."""


class Shape(NamedTuple):
    """A model, the SAE beside it, and where."""

    config: Callable[[], Any]
    width: int
    """Latents of the SAE."""
    half: bool = False
    """Run in bfloat16 on an accelerator, as models of this size are."""


ORGANISM = partial(LlamaConfig, hidden_size=192, intermediate_size=512, num_hidden_layers=6, num_attention_heads=6)
SMOLLM2 = partial(LlamaConfig, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9)
SHAPES = {
    "organism": Shape(partial(ORGANISM, vocab_size=636, tie_word_embeddings=True), 1536),
    "gpt2": Shape(GPT2Config, 24_576),
    "smollm2": Shape(partial(SMOLLM2, num_key_value_heads=3, vocab_size=49_152, tie_word_embeddings=True), 4096),
    "gemma-2-2b": Shape(Gemma2Config, 16_384, half=True),
}


def model(shape: Shape, device: torch.device) -> Subject:
    """The model on a device, its tokenizer an empty one."""
    dtype = torch.bfloat16 if shape.half and device.type != "cpu" else torch.float32
    torch.manual_seed(0)
    with device:
        made = AutoModelForCausalLM.from_config(shape.config(), dtype=dtype)
    return Subject(made, SimpleNamespace(bos_token_id=None, pad_token_id=None), "random")
