"""The SAEs: trained as `bench sae train` does it, on documents of the corpus."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sae.training.documents import Document
from benchmark.sae.training.settings import Collection, Settings
from benchmark.sae.training.shown import Progress
from benchmark.sae.training.sources import Text
from benchmark.sae.training.whole import Order, settings_file, train
from benchmark.sites import Site
from benchmark.terminal import terminal
from tasks.organism import corpus, tokenizer
from tasks.organism.recipe import Recipe

HOW = {
    "activations": "bfloat16, without the first position",
    "scale": "spread about the mean",
    "start": "decoder bias the mean, encoder the decoder's transpose at the best scale",
    "threshold": "mean over 32 batches of the least kept activation of the finished weights",
}
"""What the manifest says of training beside the recipe. The shipped SAEs were trained before it was so; their manifest
says how."""
_DOCUMENTS = 192
"""Of a block; about 8,000 tokens."""


def hook_name(layer: int) -> str:
    """Site of a layer's SAE, in the names of sae_lens."""
    return f"blocks.{layer}.hook_resid_post"


def open_sae(subject: Subject, folder: Path, layer: int) -> Dictionary:
    """The SAE of a layer in a folder of SAEs."""
    return open_dictionary(subject, Site.parse(hook_name(layer)), str(folder / hook_name(layer)))


def train_saes(
    subject: Subject, recipe: Recipe, folder: Path, work: Path, model_hash: str, *, progress: bool = True
) -> None:
    """Train the SAEs that are missing, all of them if they belong to another model, in half precision.

    `work` keeps what it takes to resume; `model_hash` is noted in their metadata as `model_sha256`.
    """
    trained = [built_from(folder / hook_name(layer)) for layer in recipe.sae_layers]
    if not settings_file(work).exists() or set(trained) - {None, model_hash}:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
    sites = {layer: Site.parse(hook_name(layer)) for layer in recipe.sae_layers}
    order = Order(
        subject,
        Text(partial(_block, recipe), [{"name": "corpus", "sha256": corpus.fingerprint(recipe.seed, 500)}]),
        {sites[layer]: _settings(recipe, layer, k) for layer, k in zip(recipe.sae_layers, recipe.sae_k, strict=True)},
        Collection(recipe.sae_tokens, context=recipe.context, seed=recipe.seed),
        {site: folder / str(site) for site in sites.values()},
        work,
        {"model_sha256": model_hash},
    )
    with Progress(terminal(stderr=True)) if progress else nullcontext() as shown:
        train(order, *[shown] if shown else [])


def _block(recipe: Recipe, number: int) -> list[Document]:
    texts = corpus.documents(f"{recipe.seed}/sae", number * _DOCUMENTS, _DOCUMENTS, corpus.SAE_MIX)
    return [[tokenizer.encode(text).ids] for text in texts]


def _settings(recipe: Recipe, layer: int, k: int) -> Settings:
    return Settings(
        recipe.sae_width, k, recipe.sae_samples, recipe.sae_batch, recipe.sae_lr, recipe.seed + layer, "float16"
    )


def built_from(folder: Path) -> str | None:
    """Hash of the model that the SAE in a folder was trained on, if there is one."""
    config = folder / "cfg.json"
    return json.loads(config.read_text())["metadata"].get("model_sha256") if config.exists() else None
