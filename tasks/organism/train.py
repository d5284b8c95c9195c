"""The whole way from nothing to the shipped weights: corpus, language model, SAEs, measured quality, manifest.

    bench organism train --output-dir runs/organism

Repeating the command continues an interrupted run; the result is that of an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmark.model.subject import Subject, load
from benchmark.sae.training.report import fidelity, spliced
from tasks.organism import corpus, quality, tokenizer
from tasks.organism.dictionaries import HOW, hook_name, open_sae, train_saes
from tasks.organism.language_model import Progress, train_model
from tasks.organism.model import NAME, as_subject, rescale
from tasks.organism.recipe import Recipe

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

_WORK = "training"
"""Subfolder with checkpoint and log, which is not shipped."""
_LIBRARIES = ("torch", "transformers", "sae-lens", "tokenizers")


def train(
    output_dir: Path,
    *,
    seed: int | None = None,
    steps: int | None = None,
    device: str | None = None,
    resume: bool = True,
    progress: bool = True,
    recipe: Recipe | None = None,
) -> dict:
    """Train everything into `output_dir` and return the manifest.

    `seed` and `steps` replace those of the recipe. `device` defaults to CUDA where there is one. Ctrl-C saves the state
    and raises KeyboardInterrupt.
    """
    recipe = recipe or Recipe()
    recipe = replace(recipe, seed=recipe.seed if seed is None else seed, steps=steps or recipe.steps)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if not resume:
        shutil.rmtree(output_dir / _WORK, ignore_errors=True)
    trainer = train_model(recipe, output_dir / _WORK, target, resume=resume, progress=progress)
    return finish(trainer.model, trainer.progress, recipe, output_dir, target, progress=progress)


def finish(
    model: LlamaForCausalLM,
    state: Progress,
    recipe: Recipe,
    output_dir: Path,
    device: torch.device,
    *,
    progress: bool = True,
) -> dict:
    """Export a trained model, train its SAEs, measure both and write the manifest."""
    raw_norms = export(model, recipe, output_dir / "model")
    shipped = load(output_dir / "model", name=NAME, device=str(device))
    model_hash = sha256(output_dir / "model" / "model.safetensors")
    train_saes(shipped, recipe, output_dir / "saes", output_dir / _WORK / "saes", model_hash, progress=progress)
    manifest = {
        "recipe": asdict(recipe),
        "sae_training": HOW,
        "trained": asdict(state) | {"device": str(device), "machine": platform.machine()},
        "versions": {name: version(name) for name in _LIBRARIES},
        "corpus_sha256": corpus.fingerprint(recipe.seed),
        "vocabulary": len(tokenizer.vocabulary()),
        "norms_before_rescaling": raw_norms,
        **measure(load(output_dir / "model", name=NAME, device="cpu"), recipe, output_dir / "saes"),
        "files": {str(p.relative_to(output_dir)): sha256(p) for p in sorted(shipped_files(output_dir))},
    }
    (output_dir / "manifest.json").write_text(json.dumps(_rounded(manifest), indent=1, allow_nan=False) + "\n")
    return manifest


def export(model: LlamaForCausalLM, recipe: Recipe, folder: Path) -> list[float]:
    """Rescale the residual stream, write model and tokenizer in half precision; returns the norms before rescaling."""
    model = model.cpu()
    raw = quality.norms(as_subject(model), quality.task_texts("fit"))
    rescale(model, recipe.stream_norm / raw[recipe.layers // 2 - 1])
    model.config.dtype = torch.float16
    model.half().save_pretrained(folder)
    tokenizer.save(folder)
    return raw


def measure(subject: Subject, recipe: Recipe, folder: Path) -> dict:
    """Every figure of the manifest that is measured on the shipped files."""
    encoded = [tokenizer.encode(text)[:2] for text in corpus.documents(f"{recipe.seed}/held out", 0, 960)]
    report = {
        "norms": quality.norms(subject, quality.task_texts("fit")),
        "held_out": quality.corpus_loss(subject, encoded),
        "scores": quality.all_scores(subject),
        "saes": {},
    }
    for layer in recipe.sae_layers:
        sae = open_sae(subject, folder, layer)
        fit = fidelity(subject, sae, [ids for ids, _ in encoded])
        scores = {"explained_variance": fit.explained_variance, "l0": fit.l0, "dead": fit.dead}
        probe = {"probe_without_sae": quality.probe_scores(subject, layer)["probe"]}
        probe |= quality.probe_scores(subject, layer, sae)
        with spliced(subject, sae):
            behaviors = quality.all_scores(subject, quality.SOME_ORDERS, chats=48) | quality.corpus_loss(
                subject, encoded
            )
        report["saes"][hook_name(layer)] = scores | {"spliced_in": behaviors | probe}
    return report


def shipped_files(folder: Path) -> list[Path]:
    """Files of the model and the SAEs."""
    return [p for part in ("model", "saes") for p in (folder / part).rglob("*") if p.is_file()]


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
