"""sparsify (EleutherAI): ``cfg.json`` and ``sae.safetensors`` in a folder that is named after the hooked module.

``encoder.weight`` and ``W_dec`` are both (width, d_model). ``b_dec`` is always subtracted, whatever
``normalize_decoder`` says, and the folder ``layers.3.mlp`` is not the residual stream; sae_lens 6.54 reads all three
otherwise.
"""

from __future__ import annotations

import re

from benchmark.sae.layouts.normal import Declared, Sae
from benchmark.sae.layouts.place import Config, Place

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
FILES = (CONFIG, WEIGHTS)
_MODULE = re.compile(r"(?:\w+\.)*(?:layers|h)\.(\d+)(?P<inner>\.[\w.]+)?")


def read(place: Place) -> Sae:
    """The SAE of a folder in this layout.

    Raises:
        UsageError: its files do not fit each other, or it is a transcoder or of another activation function.
    """
    config = place.config(CONFIG)
    config.chosen("activation", {"topk": None}, "topk")
    for switch in ("transcode", "skip_connection"):
        config.refuse(switch, "a transcoder does not reconstruct what it reads")
    config.refuse("signed", "latents that are active below 0 are not supported")
    k = config.active("k")
    tensors = place.tensors(WEIGHTS)
    sae = Sae(
        "topk",
        tensors.take("encoder.weight").T,
        tensors.take("W_dec"),
        tensors.take("encoder.bias"),
        tensors.take("b_dec"),
        k=k,
        apply_b_dec_to_input=True,
        declared=Declared(_hook(place), _model(place)),
    )
    tensors.finish()
    config.agrees("d_in", sae.W_dec.shape[-1], f"W_dec in {WEIGHTS}")
    _check_width(config, sae)
    return sae


def _check_width(config: Config, sae: Sae) -> None:
    if config.count("num_latents"):
        config.agrees("num_latents", sae.width, f"W_dec in {WEIGHTS}")
    elif config.count("expansion_factor"):
        ratio = sae.width / sae.d_model
        config.agrees("expansion_factor", int(ratio) if ratio == int(ratio) else -1, f"W_dec in {WEIGHTS}")


def _hook(place: Place) -> str | None:
    name = place.name.rpartition("/")[2]
    found = _MODULE.fullmatch(name)
    if found is None:
        return name if name == "embed_tokens" else None
    return f"blocks.{found[1]}{found['inner']}" if found["inner"] else f"blocks.{found[1]}.hook_resid_post"


def _model(place: Place) -> str | None:
    """The trainer leaves its own configuration above the folders of its SAEs."""
    above = Place(place.path.absolute().parent, place.name)
    return above.config("config.json").text("model") if above.has("config.json") else None
