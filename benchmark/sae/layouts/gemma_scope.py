"""Gemma Scope: ``params.npz`` with JumpReLU SAEs of Gemma 2, and no configuration: the folder's name says the rest.

``gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_59``. Sizes are the file's; a name rounds them.
"""

from __future__ import annotations

import re

from benchmark.sae.layouts.normal import Declared, Sae
from benchmark.sae.layouts.place import Place, Tensors

WEIGHTS = "params.npz"
FILES = (WEIGHTS,)
_REPO = re.compile(r"gemma-scope-(\w+)-(pt|it)-(res|mlp|att|transcoders)(?:-|/|$)")
_LAYER, _L0 = re.compile(r"layer_(\d+)(?:/|$)"), re.compile(r"average_l0_(\d+)")
_HOOKS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z", "transcoders": "hook_mlp_in"}


def read(place: Place) -> Sae:
    """The SAE of a folder in this layout.

    Raises:
        UsageError: its file is damaged, lacks a tensor or holds another.
    """
    return jumprelu(place.tensors(WEIGHTS), _declared(place.name))


def jumprelu(tensors: Tensors, declared: Declared) -> Sae:
    """The SAE of the five tensors that a file of Gemma Scope holds, of the first and of the second.

    Raises:
        UsageError: the file lacks one or holds another.
    """
    sae = Sae(
        "jumprelu",
        tensors.take("w_enc"),
        tensors.take("w_dec"),
        tensors.take("b_enc"),
        tensors.take("b_dec"),
        threshold=tensors.take("threshold"),
        declared=declared,
    )
    tensors.finish("a JumpReLU SAE of Gemma Scope has no such tensors")
    return sae


def _declared(name: str) -> Declared:
    repo, layer, l0 = _REPO.search(name), _LAYER.search(name), _L0.search(name)
    hook = None
    if "/embedding/" in f"/{name}/":
        hook = "hook_embed"
    elif repo and layer:
        hook = f"blocks.{int(layer[1])}.{_HOOKS[repo[3]]}"
    model = f"gemma-2-{repo[1]}" + ("-it" if repo[2] == "it" else "") if repo else None
    return Declared(hook, model, prepend_bos=True, l0=float(l0[1]) if l0 else None)
