"""Qwen Scope: ``layer3.sae.pt``, one file a layer in a repository whose name says the rest.

``Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50``. ``W_enc`` is (width, d_model) and ``W_dec`` (d_model, width).
"""

from __future__ import annotations

import re

from benchmark.errors import UsageError
from benchmark.sae.layouts.normal import Declared, Sae
from benchmark.sae.layouts.place import Place

FILE = re.compile(r"layer(\d+)\.sae\.pt")
FORM = "layer<N>.sae.pt"
_K = re.compile(r"L0_(\d+)(?:[@/]|$)")
_MODEL = re.compile(r"SAE-Res-([\w.-]+?)-W\d+K")


def read(place: Place) -> Sae:
    """The SAE of a file in this layout.

    Raises:
        UsageError: it is damaged, lacks a tensor or holds another, or nothing says ``k``.
    """
    layer, k, model = FILE.fullmatch(place.path.name), _K.search(place.name), _MODEL.search(place.name)
    if k is None or layer is None or int(k[1]) == 0:
        raise UsageError(
            f"{place.path} does not say how many latents are active at most, and neither does its repository; put it "
            "into a folder that is named after it (SAE-Res-<model>-W<width>K-L0_<k>, or L0_<k>)"
        )
    tensors = place.tensors()
    sae = Sae(
        "topk",
        tensors.take("W_enc").T,
        tensors.take("W_dec").T,
        tensors.take("b_enc"),
        tensors.take("b_dec"),
        k=int(k[1]),
        declared=Declared(f"blocks.{int(layer[1])}.hook_resid_post", model[1] if model else None),
    )
    tensors.finish("a topk SAE of Qwen Scope has no such tensors")
    return sae
