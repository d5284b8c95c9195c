"""Gemma Scope 2: ``params.safetensors`` with JumpReLU SAEs of Gemma 3, and a ``config.json`` that may be missing.

``gemma-scope-2-270m-it/resid_post/layer_5_width_16k_l0_small``: without a configuration the name says the rest.
"""

from __future__ import annotations

import re

from benchmark.sae.layouts.gemma_scope import jumprelu
from benchmark.sae.layouts.normal import Declared, Sae
from benchmark.sae.layouts.place import Config, Place

CONFIG, WEIGHTS = "config.json", "params.safetensors"
FILES = (WEIGHTS,)
OPTIONAL = (CONFIG,)
_REPO = re.compile(r"gemma-scope-2-(\w+)-(pt|it)(?:/|$|@)")
_PART = re.compile(r"(resid_post|attn_out|mlp_out|transcoder|clt|crosscoder)\w*/layer_(\d+)")
_HF_HOOK = re.compile(r"model\.(?:language_model\.)?layers\.(\d+)\.output")
_HOOKS = {"resid_post": "hook_resid_post", "attn_out": "attn.hook_z", "mlp_out": "hook_mlp_out"}


def read(place: Place) -> Sae:
    """The SAE of a folder in this layout.

    Raises:
        UsageError: its files do not fit each other, or it is a transcoder.
    """
    config = place.config(CONFIG) if place.has(CONFIG) else Config(str(place.path / CONFIG), {})
    config.chosen("architecture", {"jump_relu": None, "jumprelu": None}, "jump_relu")
    config.refuse("affine_connection", "a transcoder does not reconstruct what it reads")
    config.refuse_transcoder("hf_hook_point_in", "hf_hook_point_out")
    return jumprelu(place.tensors(WEIGHTS), _declared(config, place.name))


def _declared(config: Config, name: str) -> Declared:
    repo = _REPO.search(name)
    model = config.text("model_name") or (f"gemma-3-{repo[1]}-{repo[2]}" if repo else None)
    # its configurations write gemma-v3; the 270m base model has no suffix on the hub
    model = model and model.replace("-v3", "-3").replace("270m-pt", "270m")
    return Declared(_hook(config, name), model, prepend_bos=True, l0=config.number("l0"))


def _hook(config: Config, name: str) -> str | None:
    said, part = config.text("hf_hook_point_in"), _PART.search(name)
    if said is not None:
        post = _HF_HOOK.fullmatch(said)
        return f"blocks.{post[1]}.hook_resid_post" if post else said
    return f"blocks.{part[2]}.{_HOOKS.get(part[1], part[1])}" if part else None
