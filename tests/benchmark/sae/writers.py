"""Writes an SAE exactly as its publishers lay one out: file names, configuration keys, tensor names, orientations.

``write("gemma_scope", folder, sae)`` gives what ``open_dictionary`` and the library of origin read. Names that a layout
keeps in its path (layer, ``k``) are the caller's: ``path_of`` says the published one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmark.sae.layouts.normal import Architecture, Sae

WIDTH, D_MODEL = 64, 32


def random_sae(
    architecture: Architecture = "jumprelu", d_model: int = D_MODEL, width: int = WIDTH, seed: int = 0, **changes: Any
) -> Sae:
    """Decoder rows of norms that differ, biases that are not 0; about a third of the latents are active on noise."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    decoder = torch.nn.functional.normalize(random(width, d_model), dim=1)
    parts: dict[str, Any] = {
        "W_enc": decoder.T.contiguous() + random(d_model, width, scale=0.1),
        "W_dec": decoder * torch.linspace(0.5, 2, width)[:, None],
        "b_enc": random(width, scale=0.1),
        "b_dec": random(d_model, scale=0.5),
    }
    if architecture == "jumprelu":
        parts["threshold"] = 0.05 + random(width).abs() * 0.3
    if architecture == "topk":
        parts["k"] = 8
    if architecture == "gated":
        parts |= {"r_mag": random(width, scale=0.1), "b_mag": random(width, scale=0.1)}
    return Sae(architecture, **{**parts, **changes})


def exact_sae(d_model: int = D_MODEL, seed: int = 0, **changes: Any) -> Sae:
    """An SAE that explains everything: latents [R, -R] of an orthonormal R, whose decoder is its transpose."""
    basis = torch.linalg.qr(torch.randn(d_model, d_model, generator=torch.Generator().manual_seed(seed)))[0]
    encoder = torch.cat([basis, -basis], 1)
    parts = {"W_enc": encoder, "W_dec": encoder.T.contiguous(), "b_enc": torch.zeros(2 * d_model)}
    return Sae("standard", b_dec=torch.zeros(d_model), **{**parts, **changes})


def write(layout: str, folder: Path, sae: Sae, **meta: Any) -> Path:
    """Write ``sae`` into ``folder`` in a layout's own form; ``meta`` adds to (or, nested, replaces) its configuration.

    Returns the path that is opened: the folder, or the file of a layout that is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _WRITERS[layout](folder, sae, meta) or folder


def path_of(layout: str, layer: int, sae: Sae, l0: int = 59) -> str:
    """Repository and path under which a layout publishes the residual stream behind a layer."""
    thousands = max(1, round(sae.width / 1024))
    return {
        "sae_lens": f"made-up-res/blocks.{layer}.hook_resid_post",
        "sae_lens_5": f"made-up-res-old/blocks.{layer}.hook_resid_post",
        "gemma_scope": f"gemma-scope-2b-pt-res/layer_{layer}/width_{thousands}k/average_l0_{l0}",
        "gemma_scope_2": f"gemma-scope-2-270m-it/resid_post/layer_{layer}_width_{thousands}k_l0_small",
        "llama_scope": f"Llama3_1-8B-Base-LXR-8x/Llama3_1-8B-Base-L{layer}R-8x",
        "llamascopium": f"Llama-Scope-3/L{layer}R",
        "llamascopium_old": f"Llama-Scope-R1-Distill/800M-Slimpajama-0-OpenR1-Math-220k/L{layer}R",
        "dictionary_learning": f"saebench/resid_post_layer_{layer}/trainer_0",
        "sparsify": f"sae-made-up/layers.{layer}",
        "qwen_scope": f"SAE-Res-Qwen3-1.7B-Base-W{thousands}K-L0_{sae.k}",
    }[layout]


def _save(path: Path, tensors: Mapping[str, Tensor | None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in tensors.items() if t is not None}, path)


def _json(path: Path, content: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    path.write_text(json.dumps({**content, **meta}))


def _hook(meta: dict[str, Any], name: str) -> str:
    return meta.pop(name, "blocks.1.hook_resid_post")


def _sae_lens_tensors(sae: Sae) -> dict[str, Tensor | None]:
    bias = "b_gate" if sae.architecture == "gated" else "b_enc"
    return {
        "W_enc": sae.W_enc, "W_dec": sae.W_dec, bias: sae.b_enc, "b_dec": sae.b_dec,
        "threshold": sae.threshold, "r_mag": sae.r_mag, "b_mag": sae.b_mag,
    }  # fmt: skip


def _sae_lens(folder: Path, sae: Sae, meta: dict[str, Any]) -> None:
    metadata = {"hook_name": _hook(meta, "hook_name"), "sae_lens_version": "6.54.12"} | meta.pop("metadata", {})
    _save(folder / "sae_weights.safetensors", _sae_lens_tensors(sae))
    content = {
        "architecture": sae.architecture,
        "d_in": sae.d_model,
        "d_sae": sae.width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalize,
        "reshape_activations": "none",
        **({"k": sae.k, "rescale_acts_by_decoder_norm": False} if sae.k else {}),
        "metadata": metadata,
    }
    _json(folder / "cfg.json", content, meta)


def _sae_lens_5(folder: Path, sae: Sae, meta: dict[str, Any]) -> None:
    _save(folder / "sae_weights.safetensors", _sae_lens_tensors(sae) | {"scaling_factor": torch.ones(sae.width)})
    content = {
        "architecture": "standard" if sae.architecture == "topk" else sae.architecture,
        "d_in": sae.d_model,
        "d_sae": sae.width,
        "dtype": "torch.float32",
        "device": "cpu",
        "hook_name": _hook(meta, "hook_name"),
        "hook_layer": 1,
        "hook_head_index": None,
        "activation_fn_str": "topk" if sae.k else "relu",
        "activation_fn_kwargs": {"k": sae.k} if sae.k else {},
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "finetuning_scaling_factor": False,
        "normalize_activations": sae.normalize,
        "context_size": 128,
        "prepend_bos": True,
        "sae_lens_training_version": "3.13.0",
    }
    _json(folder / "cfg.json", content, meta)


def _lower(sae: Sae) -> dict[str, Tensor | None]:
    return {
        "w_enc": sae.W_enc, "w_dec": sae.W_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec, "threshold": sae.threshold,
    }  # fmt: skip


def _gemma_scope(folder: Path, sae: Sae, meta: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {name: t.numpy() for name, t in _lower(sae).items() if t is not None}
    np.savez(folder / "params.npz", **arrays)


def _gemma_scope_2(folder: Path, sae: Sae, meta: dict[str, Any]) -> None:
    _save(folder / "params.safetensors", _lower(sae))
    if meta.pop("bare", False):  # some folders have no configuration
        return
    content = {
        "architecture": "jump_relu",
        "model_name": "google/gemma-v3-270m-it",
        "hf_hook_point_in": "model.layers.1.output",
        "hf_hook_point_out": "model.layers.1.output",
        "width": sae.width,
        "affine_connection": False,
        "type": "sae",
    }
    _json(folder / "config.json", content, meta)


def _linear(sae: Sae) -> dict[str, Tensor | None]:
    return {
        "encoder.weight": sae.W_enc.T, "decoder.weight": sae.W_dec.T,
        "encoder.bias": sae.b_enc, "decoder.bias": sae.b_dec,
    }  # fmt: skip


def _llama_scope(folder: Path, sae: Sae, meta: dict[str, Any]) -> None:
    """``sae`` is what was trained, on the scaled stream; of its thresholds the first is that of all latents."""
    assert sae.threshold is not None
    _save(folder / "checkpoints" / "final.safetensors", _linear(sae))
    hook, norm = _hook(meta, "hook_point_in"), meta.pop("norm", 2.5)
    content = {
        "d_model": sae.d_model,
        "d_sae": sae.width,
        "act_fn": "jumprelu",
        "jump_relu_threshold": float(sae.threshold[0]),
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": norm, "out": norm},
        "sparsity_include_decoder_norm": False,
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "top_k": 50,
        "hook_point_in": hook,
        "hook_point_out": hook,
    }
    _json(folder / "hyperparams.json", content, meta)


def _llamascopium(folder: Path, sae: Sae, meta: dict[str, Any], old: bool = False) -> None:
    hook, norm = _hook(meta, "hook_point_in"), meta.pop("norm", 2.5)
    tensors = _linear(sae) if old else {"W_E": sae.W_enc, "b_E": sae.b_enc, "W_D": sae.W_dec, "b_D": sae.b_dec}
    if sae.threshold is not None:
        tensors["log_jumprelu_threshold" if old else "activation_function.log_jumprelu_threshold"] = sae.threshold.log()
    if norm is not None:
        tensors[f"dataset_average_activation_norm.{hook}"] = torch.tensor(norm)
    _save(folder / "sae_weights.safetensors", tensors)
    content = {
        "sae_type": "sae",
        "d_model": sae.d_model,
        "expansion_factor": sae.width // sae.d_model,
        "act_fn": {"standard": "relu"}.get(sae.architecture, sae.architecture),
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "top_k": sae.k or 50,
        "use_decoder_bias": True,
        "hook_point_in": hook,
        "hook_point_out": hook,
    }
    _json(folder / "config.json", content, meta)


def _llamascopium_old(folder: Path, sae: Sae, meta: dict[str, Any]) -> None:
    _llamascopium(folder, sae, meta, old=True)


def _dictionary_learning(folder: Path, sae: Sae, meta: dict[str, Any]) -> None:
    default = {"standard": "AutoEncoder", "topk": "AutoEncoderTopK", "gated": "GatedAutoEncoder"}
    kind = meta.pop("dict_class", default.get(sae.architecture, "JumpReluAutoEncoder"))
    torch.save({n: t.contiguous() for n, t in _of_class(kind, sae).items()}, folder / "ae.pt")
    trainer = {
        "dict_class": kind,
        "activation_dim": sae.d_model,
        "dict_size": sae.width,
        "k": sae.k or 8,
        "layer": 1,
        "lm_name": "made/up",
        "submodule_name": "resid_post_layer_1",
        **meta,
    }
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}))


def _of_class(kind: str, sae: Sae) -> dict[str, Any]:
    weights: dict[str, Any] = {"encoder.weight": sae.W_enc.T, "decoder.weight": sae.W_dec.T}
    k, bias = torch.tensor(sae.k or 8, dtype=torch.int), {"encoder.bias": sae.b_enc}
    first = torch.tensor(-1.0) if sae.threshold is None else sae.threshold[0]
    straight = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
    return {
        "AutoEncoder": {**weights, **bias, "bias": sae.b_dec},
        "AutoEncoderNew": {**weights, **bias, "decoder.bias": sae.b_dec},
        "AutoEncoderTopK": {**weights, **bias, "b_dec": sae.b_dec, "k": k, "threshold": first},
        "BatchTopKSAE": {**weights, **bias, "b_dec": sae.b_dec, "k": k, "threshold": first},
        "GatedAutoEncoder": {
            **weights, "decoder_bias": sae.b_dec, "gate_bias": sae.b_enc, "r_mag": sae.r_mag, "mag_bias": sae.b_mag,
        },
        "MatryoshkaBatchTopKSAE": {
            **straight, "k": k, "threshold": first, "group_sizes": torch.tensor([sae.width]),
        },
        "JumpReluAutoEncoder": {**straight, "threshold": sae.threshold},
    }[kind]  # fmt: skip


def _sparsify(folder: Path, sae: Sae, meta: dict[str, Any]) -> None:
    tensors = {"encoder.weight": sae.W_enc.T, "encoder.bias": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    _save(folder / "sae.safetensors", tensors)
    content = {
        "activation": "topk",
        "expansion_factor": sae.width // sae.d_model,
        "normalize_decoder": True,
        "num_latents": 0,
        "k": sae.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": sae.d_model,
    }
    _json(folder / "cfg.json", content, meta)


def _qwen_scope(folder: Path, sae: Sae, meta: dict[str, Any]) -> Path:
    path = folder / f"layer{meta.pop('layer', 1)}.sae.pt"
    tensors = {"W_enc": sae.W_enc.T, "W_dec": sae.W_dec.T, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
    torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


_WRITERS: dict[str, Callable[[Path, Sae, dict[str, Any]], Path | None]] = {
    "sae_lens": _sae_lens,
    "sae_lens_5": _sae_lens_5,
    "gemma_scope": _gemma_scope,
    "gemma_scope_2": _gemma_scope_2,
    "llama_scope": _llama_scope,
    "llamascopium": _llamascopium,
    "llamascopium_old": _llamascopium_old,
    "dictionary_learning": _dictionary_learning,
    "sparsify": _sparsify,
    "qwen_scope": _qwen_scope,
}
