"""dictionary_learning (SAEBench, andyrdt): ``ae.pt`` and ``config.json`` with the trainer's settings.

The library renormalises an AutoEncoder's decoder when it loads one; here it stays as it is stored, so that latents have
other units there. BatchTopK is read by its threshold, as the library does outside of training.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.sae.layouts.normal import Declared, Sae
from benchmark.sae.layouts.place import Config, Place, Tensors, scalar

CONFIG, WEIGHTS = "config.json", "ae.pt"
FILES = (CONFIG, WEIGHTS)
_POST = re.compile(r"resid_post(?:_layer)?(?:_\d+)?")


def read(place: Place) -> Sae:
    """The SAE of a folder in this layout.

    Raises:
        UsageError: its files do not fit each other, or it is of a class that is not supported.
    """
    config = place.config(CONFIG)
    trainer = config.part("trainer")
    tensors = place.tensors(WEIGHTS)
    sae = trainer.chosen("dict_class", _CLASSES)(trainer, tensors, _declared(trainer))
    tensors.finish(f"the class {trainer.content['dict_class']} has no such tensors")
    trainer.agrees("activation_dim", sae.W_dec.shape[-1], f"the decoder in {WEIGHTS}")
    trainer.agrees("dict_size", sae.W_dec.shape[0], f"the decoder in {WEIGHTS}")
    return sae


def _declared(trainer: Config) -> Declared:
    layer, name = trainer.count("layer"), trainer.text("submodule_name") or "resid_post"
    # its other sub-modules (attention_out, mlp_out) are no residual stream, and are named as they are
    hook = f"blocks.{layer}.hook_resid_post" if _POST.fullmatch(name) else f"blocks.{layer}.{name}"
    return Declared(None if layer is None else hook, trainer.text("lm_name"))


def _linear(tensors: Tensors, b_dec: str, b_enc: str = "encoder.bias") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_enc, W_dec, b_enc, b_dec of a class with linear layers."""
    encoder, decoder = tensors.take("encoder.weight"), tensors.take("decoder.weight")
    return encoder.T, decoder.T, tensors.take(b_enc), tensors.take(b_dec)


def _parameters(tensors: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_enc, W_dec, b_enc, b_dec of a class with parameters of these names."""
    return tensors.take("W_enc"), tensors.take("W_dec"), tensors.take("b_enc"), tensors.take("b_dec")


def _plain(trainer: Config, tensors: Tensors, declared: Declared) -> Sae:
    return Sae("standard", *_linear(tensors, "bias"), apply_b_dec_to_input=True, declared=declared)


def _april(trainer: Config, tensors: Tensors, declared: Declared) -> Sae:
    return Sae("standard", *_linear(tensors, "decoder.bias"), declared=declared)


def _gated(trainer: Config, tensors: Tensors, declared: Declared) -> Sae:
    return Sae(
        "gated",
        *_linear(tensors, "decoder_bias", "gate_bias"),
        r_mag=tensors.take("r_mag"),
        b_mag=tensors.take("mag_bias"),
        apply_b_dec_to_input=True,
        declared=declared,
    )


def _topk(trainer: Config, tensors: Tensors, declared: Declared) -> Sae:
    tensors.maybe("threshold")  # it is there, and only another way to call it uses it
    k = _k(trainer, tensors)
    if k is None:
        raise trainer.wrong("k", "how many latents are active at most")
    return Sae("topk", *_linear(tensors, "b_dec"), k=k, apply_b_dec_to_input=True, declared=declared)


def _batch_topk(trainer: Config, tensors: Tensors, declared: Declared) -> Sae:
    _k(trainer, tensors)
    parts = _linear(tensors, "b_dec")
    threshold = _estimated(tensors, parts[2])
    return Sae("jumprelu", *parts, threshold=threshold, apply_b_dec_to_input=True, declared=declared)


def _matryoshka(trainer: Config, tensors: Tensors, declared: Declared) -> Sae:
    _k(trainer, tensors)
    tensors.maybe("group_sizes")  # how it was trained
    parts = _parameters(tensors)
    threshold = _estimated(tensors, parts[2])
    return Sae("jumprelu", *parts, threshold=threshold, apply_b_dec_to_input=True, declared=declared)


def _jumprelu(trainer: Config, tensors: Tensors, declared: Declared) -> Sae:
    return Sae("jumprelu", *_parameters(tensors), threshold=tensors.take("threshold"), declared=declared)


def _k(trainer: Config, tensors: Tensors) -> int | None:
    """Of the configuration and the file, which must not differ."""
    said, held = trainer.count("k"), tensors.maybe("k")
    found = None if held is None else int(scalar(held, tensors.where, "k"))
    if said is not None and found is not None and said != found:
        raise trainer.wrong("k", f"{found}, as {tensors.where} has it")
    return said or found


def _estimated(tensors: Tensors, like: Tensor) -> Tensor:
    threshold = scalar(tensors.take("threshold"), tensors.where, "threshold")
    if threshold < 0:
        raise Config(tensors.where, {"threshold": threshold}).wrong(
            "threshold", "0 or more: it was never estimated in training, and nothing else says which latents are active"
        )
    return torch.full_like(like, threshold)


_CLASSES: dict[str, Callable[[Config, Tensors, Declared], Sae]] = {
    "autoencoder": _plain,
    "autoencodernew": _april,
    "gatedautoencoder": _gated,
    "autoencodertopk": _topk,
    "batchtopksae": _batch_topk,
    "matryoshkabatchtopksae": _matryoshka,
    "jumpreluautoencoder": _jumprelu,
}
