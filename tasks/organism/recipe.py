"""Every constant of the training run, in one place. The manifest of the shipped weights records it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How the language model and its SAEs are trained."""

    seed: int = 0
    steps: int = 3000
    """Optimiser steps of the language model."""
    documents: int = 64
    """Documents a step, about 2,900 tokens."""
    lr: float = 2e-3
    warmup: int = 100
    """Steps of linear warm-up; the rate is then constant."""
    decay: float = 0.2
    """Last share of the steps, in which the rate falls linearly to zero."""
    weight_decay: float = 0.1
    text_weight: float = 0.2
    """Loss weight of tokens that are not answers; answers have weight 1."""
    thought_layer: int = 3
    """Blocks after which the answer of a question must be known, whatever the question asks for."""
    thought_weight: float = 1.0
    """Loss weight of those answers."""
    d_model: int = 192
    d_mlp: int = 512
    layers: int = 6
    heads: int = 6
    context: int = 256
    stream_norm: float = 20.0
    """Median residual norm that the middle layer is rescaled to, which does not change the function."""
    sae_layers: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Blocks whose outputs get an SAE."""
    sae_width: int = 768
    sae_k: tuple[int, ...] = (12, 24, 24, 24, 24)
    """Mean number of active latents a token, of each SAE. After the first block few explain as much, and are then about
    one thing each."""
    sae_lr: float = 1e-3
    sae_batch: int = 1024
    sae_tokens: int = 300_000
    """Distinct tokens that the SAEs are trained on."""
    sae_samples: int = 700_000
    """Tokens seen in SAE training, repeats counted."""
