"""OpenMOSS (llamascopium, lm-saes; Llama Scope R1): ``config.json`` and ``sae_weights.safetensors``.

Two generations of tensor names: ``encoder.weight`` (width, d_model) and ``W_E`` (d_model, width). Thresholds are stored
as logarithms, and are about activations of the scaled stream, times the decoder norm where that is part of sparsity.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.sae.layouts.folding import agreed, scaled_input, unit_decoder
from benchmark.sae.layouts.normal import Declared, Sae, checked
from benchmark.sae.layouts.place import Config, Place, Tensors, scalar

CONFIG, WEIGHTS, MODEL = "config.json", "sae_weights.safetensors", "lm_config.json"
FILES = (CONFIG, WEIGHTS)
OPTIONAL = (MODEL,)
_ACTS = {"relu": "standard", "jumprelu": "jumprelu", "topk": "topk"}
_NORMS = {"dataset-wise": "dataset", "token-wise": "token", "inference": "none", "none": "none"}
_OLD, _NEW = ("encoder.weight", "decoder.weight"), ("W_E", "W_D")
_AVERAGE = "dataset_average_activation_norm."


def read(place: Place) -> Sae:
    """The SAE of a folder in this layout.

    Raises:
        UsageError: its files do not fit each other, or it is of a kind that is not supported.
    """
    config = place.config(CONFIG)
    config.chosen("sae_type", {"sae": None}, "sae")
    config.refuse("use_glu_encoder", "a gated linear encoder is not supported")
    config.refuse_transcoder("hook_point_in", "hook_point_out")
    norm = config.chosen("norm_activation", _NORMS, "dataset-wise")
    tensors = place.tensors(WEIGHTS)
    averages = tensors.named(_AVERAGE)
    sae = replace(checked(_read(config, tensors), place.path), declared=_declared(config, place))
    tensors.finish()
    config.agrees("d_model", sae.d_model, f"the decoder in {WEIGHTS}")
    ratio = config.count("expansion_factor")
    if ratio is not None and ratio * sae.d_model != sae.width:
        raise config.wrong("expansion_factor", f"{sae.width / sae.d_model:g}: {WEIGHTS} has {sae.width} latents")
    sae = _by_decoder_norm(sae, bool(config.flag("sparsity_include_decoder_norm", True)))
    if norm == "dataset":
        return scaled_input(sae, _factor(config, averages, sae.d_model, place))
    return replace(sae, normalize="constant_norm_rescale" if norm == "token" else "none")


def _read(config: Config, tensors: Tensors) -> Sae:
    old = any(name in tensors for name in _OLD)
    encoder, decoder = (tensors.take(name) for name in (_OLD if old else _NEW))
    architecture = config.chosen("act_fn", _ACTS)
    k = config.active("top_k") if architecture == "topk" else None
    bias = tensors.take("encoder.bias" if old else "b_E")
    b_dec = tensors.take("decoder.bias" if old else "b_D") if config.flag("use_decoder_bias", True) else None
    return Sae(
        architecture,
        encoder.T if old else encoder,
        decoder.T if old else decoder,
        bias,
        torch.zeros(decoder.shape[0 if old else -1]) if b_dec is None else b_dec,
        threshold=_threshold(tensors, len(bias)) if architecture == "jumprelu" else None,
        k=k,
        apply_b_dec_to_input=bool(config.flag("apply_decoder_bias_to_pre_encoder", False)),
    )


def _threshold(tensors: Tensors, width: int) -> Tensor:
    old = "log_jumprelu_threshold" in tensors
    found = tensors.take("log_jumprelu_threshold" if old else "activation_function.log_jumprelu_threshold").exp()
    return found.expand(width) if found.numel() == 1 else found


def _by_decoder_norm(sae: Sae, included: bool) -> Sae:
    if not included or sae.architecture == "standard":
        return sae
    if sae.architecture == "topk":
        return unit_decoder(sae)
    norms = sae.W_dec.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    return replace(sae, threshold=None if sae.threshold is None else sae.threshold / norms)


def _factor(config: Config, averages: dict[str, Tensor], d_model: int, place: Place) -> float:
    hook = config.text("hook_point_in") or ""
    said: Any = scalar(averages[hook], config.where, _AVERAGE + hook) if hook in averages else None
    if said is None:
        said = config.part("dataset_average_activation_norm").number("in")
    factor = agreed(config.where, d_model**0.5 / said if said else None, place.factor)
    if factor is None:
        raise UsageError(
            f"{config.where}: it was trained on a stream of a fixed average norm, and neither {WEIGHTS} "
            f"({_AVERAGE}{hook}) nor a registry says the average; name it as release/sae_id, or add it to the file"
        )
    return factor


def _declared(config: Config, place: Place) -> Declared:
    model = place.config(MODEL) if place.has(MODEL) else Config("", {})
    return Declared(config.text("hook_point_in"), model.text("model_name"), model.flag("prepend_bos"))
