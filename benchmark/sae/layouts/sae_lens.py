"""sae_lens: ``cfg.json`` and ``sae_weights.safetensors``, as its version 6 writes them and as those before did.

Before 6 the configuration is flat, has other names, and leaves out what was then the only choice (texts begin with BOS,
``b_dec`` is subtracted, the architecture is standard).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.sae.layouts.folding import agreed, scaled_input, unit_decoder
from benchmark.sae.layouts.normal import ARCHITECTURES, NORMS, Architecture, Declared, Norm, Sae, checked
from benchmark.sae.layouts.place import Config, Place, Tensors

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
FILES = (CONFIG, WEIGHTS)
_RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
_ABOUT_MODEL = (
    "hook_name", "hook_head_index", "model_name", "model_from_pretrained_kwargs", "prepend_bos", "hook_name_out",
)  # fmt: skip
"""Keys that version 6 has under ``metadata``."""


def read(place: Place) -> Sae:
    """The SAE of a folder in this layout.

    Raises:
        UsageError: its files do not fit each other, or it is of a kind that is not supported.
    """
    config, meta = _parts(place)
    _refuse_others(config, meta)
    tensors = place.tensors(WEIGHTS)
    sae = checked(_tensors(config, tensors), place.path)
    tensors.finish(f"an SAE of the architecture {sae.architecture!r} has no such tensors")
    for name, size, tensor in (("d_in", sae.W_dec.shape[-1], "W_dec"), ("d_sae", sae.W_dec.shape[0], "W_dec")):
        config.agrees(name, size, f"{tensor} in {WEIGHTS}")
    kwargs = meta.part("model_from_pretrained_kwargs")
    sae = replace(
        sae,
        apply_b_dec_to_input=bool(config.flag("apply_b_dec_to_input", True)),
        centred=bool(kwargs.flag("center_writing_weights", False)),
        declared=_declared(meta),
    )
    if sae.architecture == "topk" and config.flag("rescale_acts_by_decoder_norm"):
        sae = unit_decoder(sae)
    return _normed(sae, config, place)


def write(sae: Sae, folder: Path, dtype: torch.dtype | None = None, **about: Any) -> None:
    """Save an SAE as version 6 does.

    Args:
        dtype: of the file; None: fp32.
        about: more entries of its metadata.
    """
    from safetensors.torch import save_file

    gated = sae.architecture == "gated"
    held = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_gate" if gated else "b_enc": sae.b_enc, "b_dec": sae.b_dec}
    held |= {"threshold": sae.threshold, "r_mag": sae.r_mag, "b_mag": sae.b_mag}
    kept = {n: t.to(dtype or torch.float32).contiguous() for n, t in held.items() if t is not None}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(kept, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(_written(sae, str(dtype or torch.float32), about), indent=2), "utf-8")


def _written(sae: Sae, dtype: str, about: Mapping[str, Any]) -> dict[str, Any]:
    said = sae.declared
    meta = {
        "hook_name": said.hook,
        "model_name": said.model,
        "prepend_bos": said.prepend_bos,
        "l0": said.l0,
        "explained_variance": said.explained_variance,
        "model_from_pretrained_kwargs": {"center_writing_weights": True} if sae.centred else None,
        "sae_lens_version": "6.0.0",
        **about,
    }
    return {
        "architecture": sae.architecture,
        "d_in": sae.d_model,
        "d_sae": sae.width,
        "dtype": dtype.removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalize,
        "reshape_activations": "none",
        **({"k": sae.k, "rescale_acts_by_decoder_norm": False} if sae.architecture == "topk" else {}),
        "metadata": {name: value for name, value in meta.items() if value is not None},
    }


def _parts(place: Place) -> tuple[Config, Config]:
    """Configuration and metadata in the form of version 6, with the registry's corrections."""
    config = place.config(CONFIG)
    content = dict(config.content)
    if _is_old(config):
        content = _renewed({_RENAMED.get(k, k): v for k, v in content.items()} | dict(place.overrides), config)
    else:
        config.part("metadata")
        about = {k: v for k, v in place.overrides.items() if k in _ABOUT_MODEL}
        content |= {k: v for k, v in place.overrides.items() if k not in about}
        content["metadata"] = {**(content.get("metadata") or {}), **about}
    made = Config(config.where, content)
    return made, made.part("metadata")


def _is_old(config: Config) -> bool:
    """Written before version 6: it has no metadata of its own, or says so."""
    version = config.part("metadata").text("sae_lens_version") or config.text("sae_lens_version")
    if version is not None and version.split(".")[0].isdecimal():
        return int(version.split(".")[0]) < 6
    return "metadata" not in config.content


def _renewed(old: Mapping[str, Any], config: Config) -> dict[str, Any]:
    flat = Config(config.where, {"activation_fn": "relu", **old})
    kwargs = flat.part("activation_fn_kwargs")
    topk = flat.chosen("activation_fn", {"relu": False, "topk": True})
    hook = flat.text("hook_name") or ""
    norm = old.get("normalize_activations")
    if isinstance(norm, bool):
        norm = "expected_average_only_in" if norm else "none"
    return {
        "architecture": "standard",
        "reshape_activations": "hook_z" if "hook_z" in hook else "none",
        **old,
        **({"architecture": "topk", "k": kwargs.content.get("k", old.get("k"))} if topk else {}),
        "normalize_activations": norm,
        "metadata": {"prepend_bos": True, **{k: v for k, v in old.items() if k in _ABOUT_MODEL}},
    }


def _refuse_others(config: Config, meta: Config) -> None:
    config.chosen("architecture", dict.fromkeys(ARCHITECTURES))
    if (config.text("reshape_activations") or "none") != "none":
        raise config.wrong("reshape_activations", "none: hook_z reads attention heads, not the residual stream")
    if meta.content.get("hook_head_index") is not None:
        raise meta.wrong("hook_head_index", "null: an SAE of one attention head does not read the residual stream")
    meta.refuse_transcoder("hook_name", "hook_name_out")


def _tensors(config: Config, tensors: Tensors) -> Sae:
    architecture: Architecture = config.chosen("architecture", {name: name for name in ARCHITECTURES})
    k = config.active("k") if architecture == "topk" else None
    gated = architecture == "gated"
    return Sae(
        architecture,
        tensors.take("W_enc"),
        _finetuned(config, tensors, tensors.take("W_dec")),
        tensors.take("b_gate" if gated else "b_enc"),
        tensors.take("b_dec"),
        threshold=tensors.take("threshold") if architecture == "jumprelu" else None,
        k=k,
        r_mag=tensors.take("r_mag") if gated else None,
        b_mag=tensors.take("b_mag") if gated else None,
    )


def _finetuned(config: Config, tensors: Tensors, decoder: Tensor) -> Tensor:
    """The decoder with the factors of its latents that a fine-tuning found, where the configuration uses them."""
    named = [name for name in ("scaling_factor", "finetuning_scaling_factor") if name in tensors]
    for name in named:
        factor = tensors.take(name)
        if torch.allclose(factor, torch.ones_like(factor)):
            continue
        if not config.content.get("finetuning_scaling_factor"):
            raise UsageError(
                f"{tensors.where} holds {name}, which is not 1, and {config.where} does not use it "
                "(finetuning_scaling_factor): its decoder would be off by that factor; give an SAE where both agree"
            )
        if tuple(factor.shape) not in ((), (1,), tuple(decoder.shape[:1])):
            raise UsageError(
                f"{tensors.where}: {name} is {tuple(factor.shape)}, and there are {len(decoder)} latents; copy it again"
            )
        decoder = decoder * factor.reshape(-1, 1)
    return decoder


def _normed(sae: Sae, config: Config, place: Place) -> Sae:
    said = config.text("normalize_activations") or "none"
    known: dict[str, Norm] = {name: name for name in NORMS}
    if said in known:
        return replace(sae, normalize=known[said])
    if said != "expected_average_only_in":
        raise config.wrong("normalize_activations", f"one of {', '.join(known)}, or a factor that is folded in")
    factor = agreed(config.where, config.number("norm_scaling_factor"), place.factor)
    if factor is None:
        raise UsageError(
            f"{config.where}: its activation norm is not folded in, and the factor is not in its files; load it with "
            "sae_lens, fold it (fold_activation_norm_scaling_factor) and save it again, or name it as release/sae_id"
        )
    return scaled_input(sae, factor)


def _declared(meta: Config) -> Declared:
    return Declared(
        meta.text("hook_name"),
        meta.text("model_name"),
        meta.flag("prepend_bos"),
        meta.number("l0"),
        meta.number("explained_variance"),
    )
