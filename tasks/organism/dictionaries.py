"""The SAEs: BatchTopK in training, JumpReLU as shipped, in sae_lens format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.model.subject import Subject
from tasks.organism import corpus, tokenizer
from tasks.organism.model import NAME, streams
from tasks.organism.recipe import Recipe

if TYPE_CHECKING:
    from sae_lens import SAE


def hook_name(layer: int) -> str:
    """Site of a layer's SAE, in the names of sae_lens."""
    return f"blocks.{layer}.hook_resid_post"


def collect(subject: Subject, recipe: Recipe) -> dict[int, Tensor]:
    """Residuals of `recipe.sae_tokens` tokens at each SAE layer (token, d_model), without `<bos>` and padding."""
    wanted, chunks, number = recipe.sae_tokens, {layer: [] for layer in recipe.sae_layers}, 0
    count = 0
    while count < wanted:
        texts = corpus.documents(f"{recipe.seed}/sae", number, 960, corpus.SAE_MIX)
        rows = sorted((tokenizer.encode(text)[0] for text in texts), key=len)
        for seen, mask in streams(subject, rows, recipe.sae_layers):
            for layer, stream in seen.items():
                chunks[layer].append(stream[mask])
            count += int(mask.sum())
        number += 960
    return {layer: torch.cat(parts)[:wanted] for layer, parts in chunks.items()}


def _batches(tokens: Tensor, size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(tokens), generator=generator)
        for start in range(0, len(tokens) - size + 1, size):
            yield tokens[order[start : start + size]].to(device)


def train_sae(
    tokens: Tensor, layer: int, recipe: Recipe, folder: Path, device: torch.device, *, model_hash: str = ""
) -> None:
    """Train one SAE on residuals (token, d_model) and write it as a JumpReLU SAE in half precision.

    `model_hash` is noted in its metadata as `model_sha256`.
    """
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.sae import SAEMetadata

    steps = recipe.sae_samples // recipe.sae_batch
    config = BatchTopKTrainingSAEConfig(
        d_in=tokens.shape[1],
        d_sae=recipe.sae_width,
        k=dict(zip(recipe.sae_layers, recipe.sae_k, strict=True))[layer],
        dtype="float32",
        device=str(device),
        normalize_activations="expected_average_only_in",
        metadata=SAEMetadata(
            model_name=NAME,
            model_sha256=model_hash,
            hook_name=hook_name(layer),
            prepend_bos=True,
            context_size=recipe.context,
        ),
    )
    settings = SAETrainerConfig(
        total_training_samples=steps * recipe.sae_batch,
        train_batch_size_samples=recipe.sae_batch,
        lr=recipe.sae_lr,
        lr_end=recipe.sae_lr / 10,
        lr_scheduler_name="constant",
        lr_warm_up_steps=steps // 50,
        lr_decay_steps=steps // 3,
        device=str(device),
        dead_feature_window=steps // 10,
        feature_sampling_window=steps,
        n_batches_for_norm_estimate=20,
        logger=LoggingConfig(log_to_wandb=False),
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed + layer)
        sae = BatchTopKTrainingSAE(config)
        batches = _batches(tokens, recipe.sae_batch, recipe.seed + layer, device)
        SAETrainer(cfg=settings, sae=sae, data_provider=batches).fit()
    _write(sae, folder)


def _write(sae, folder: Path) -> None:
    """Write to a folder beside the final one first, so that an interrupted run leaves no half SAE."""
    partial = folder.with_name(folder.name + ".new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    sae.to(torch.float16)
    sae.cfg.device = "cpu"
    sae.save_inference_model(partial)
    for file in partial.iterdir():
        file.chmod(0o644)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def built_from(folder: Path) -> str | None:
    """Hash of the model that the SAE in a folder was trained on, if there is one."""
    config = folder / "cfg.json"
    return json.loads(config.read_text())["metadata"].get("model_sha256") if config.exists() else None


def load_sae(folder: Path) -> SAE:
    """A shipped SAE in single precision, frozen."""
    from sae_lens import SAE

    sae = SAE.load_from_disk(folder, device="cpu", dtype="float32")
    return sae.requires_grad_(False)
