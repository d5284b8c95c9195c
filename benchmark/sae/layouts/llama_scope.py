"""Llama Scope: ``hyperparams.json`` and ``checkpoints/final.safetensors``, JumpReLU with one threshold for all latents.

It was trained on the stream times sqrt(d) / average norm. The threshold that its configuration gives is about
activations of the unscaled stream, so it takes the factor too (sae_lens reads it so), and the decoder norm, where that
is part of what is compared.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmark.sae.layouts.folding import agreed, scaled_input
from benchmark.sae.layouts.normal import Declared, Sae, checked
from benchmark.sae.layouts.place import Config, Place

CONFIG, WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"
FILES = (CONFIG, WEIGHTS)
MODEL = "Llama-3.1-8B"
"""All of them are of this model; the files do not say it."""


def read(place: Place) -> Sae:
    """The SAE of a folder in this layout.

    Raises:
        UsageError: its files do not fit each other, or it is a transcoder or of another activation function.
    """
    config = place.config(CONFIG)
    config.chosen("act_fn", {"jumprelu": None}, "jumprelu")
    config.chosen("norm_activation", {"dataset-wise": None}, "dataset-wise")
    config.refuse("use_glu_encoder", "a gated linear encoder is not supported")
    config.refuse_transcoder("hook_point_in", "hook_point_out")
    threshold = config.number("jump_relu_threshold")
    if threshold is None:
        raise config.wrong("jump_relu_threshold", "the threshold of all latents")
    tensors = place.tensors(WEIGHTS)
    bias = tensors.take("encoder.bias")
    sae = Sae(
        "jumprelu",
        tensors.take("encoder.weight").T,
        tensors.take("decoder.weight").T,
        bias,
        tensors.take("decoder.bias"),
        threshold=torch.full_like(bias, threshold),
        apply_b_dec_to_input=bool(config.flag("apply_decoder_bias_to_pre_encoder", False)),
        declared=Declared(config.text("hook_point_in"), MODEL, prepend_bos=True),
    )
    tensors.finish()
    sae = checked(sae, place.path)
    config.agrees("d_model", sae.d_model, f"decoder.weight in {WEIGHTS}")
    config.agrees("d_sae", sae.width, f"decoder.weight in {WEIGHTS}")
    factor = _factor(config, sae.d_model, place)
    norms = sae.W_dec.norm(dim=1) if config.flag("sparsity_include_decoder_norm") else torch.ones(sae.width)
    gates = threshold * factor / norms.clamp(min=torch.finfo(torch.float32).tiny)
    return scaled_input(replace(sae, threshold=gates), factor)


def _factor(config: Config, d_model: int, place: Place) -> float:
    average = config.part("dataset_average_activation_norm").number("in")
    factor = agreed(config.where, d_model**0.5 / average if average else None, place.factor)
    if factor is None:
        raise config.wrong("dataset_average_activation_norm", 'the average norms of its training, {"in": ..., ...}')
    return factor
