"""Training of one SAE by sae_lens, step by step: it can be stopped between any two and goes on as if it had not been.

What sae_lens leaves to chance or to slow averages is computed instead, so that its defaults need no tuning: the
scale of the activations is their spread about the mean, the decoder's bias begins as that mean, the first
reconstruction has the best length, and the threshold of the finished SAE is the one that keeps ``k`` latents active.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.sae.training.activations import Advance
from benchmark.sae.training.settings import Settings, seed_of

if TYPE_CHECKING:
    from sae_lens import BatchTopKTrainingSAE, SAETrainer

_WEIGHTS = "weights.pt"
_SECONDS = 60
"""Between two checkpoints."""
_MOST_QUIET = 1000
"""Steps without activity after which a latent counts as dead; of short trainings, a tenth."""
_CALIBRATION = 32
"""Batches that the final threshold is an average over."""


class Fit:
    """A training and where it stands."""

    def __init__(
        self, tokens: Tensor, settings: Settings, device: torch.device, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """``tokens`` (token, d_model) in any dtype, on the CPU; ``metadata`` goes into the SAE's configuration.

        Raises:
            UsageError: they are fewer than a batch, all the same, or not finite.
        """
        if len(tokens) < settings.batch:
            raise UsageError(
                f"there are {len(tokens)} activations for batches of {settings.batch}; give more --text, or lower "
                "--batch-size"
            )
        self.tokens, self.settings, self.device = tokens, settings, device
        self.seconds = 0.0
        """Spent in steps, those of earlier runs counted."""
        self._epoch: tuple[int, Tensor] | None = None
        self.mean, self.scale = spread(tokens)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(settings.seed, "sae"))
            self.sae = _new(tokens.shape[1], settings, metadata or {}).to(device)
        self._begin_well()
        self.trainer = _trainer(self.sae, settings, device)
        self.trainer.activation_scaler.scaling_factor = self.scale

    @property
    def step(self) -> int:
        """Steps done."""
        return self.trainer.n_training_steps

    @property
    def quiet(self) -> float:
        """Share of latents that were active in none of the last steps (``dead_feature_window`` of sae_lens)."""
        return float(self.trainer.dead_neurons.float().mean())

    def batch(self, step: int) -> Tensor:
        """Unscaled activations (batch, d_model) of a step: each pass over the tokens is in another order."""
        size = self.settings.batch
        epoch, place = divmod(step, len(self.tokens) // size)
        if self._epoch is None or self._epoch[0] != epoch:
            generator = torch.Generator().manual_seed(seed_of(self.settings.seed, "order", epoch))
            self._epoch = epoch, torch.randperm(len(self.tokens), generator=generator)
        rows = self._epoch[1][place * size : (place + 1) * size]
        # pinned for a GPU, so that the copy holds nothing up; torch lends no such memory again while a copy reads it
        shape, pinned = (size, self.tokens.shape[1]), self.device.type == "cuda"
        taken = torch.empty(shape, dtype=self.tokens.dtype, pin_memory=pinned)
        torch.index_select(self.tokens, 0, rows, out=taken)
        return taken.to(self.device, non_blocking=True).float()

    def run(
        self, folder: Path, advance: Advance = lambda done, total: None, asked: Sequence[bool] = ()
    ) -> BatchTopKTrainingSAE:
        """Train to the end, from the checkpoint in ``folder`` if there is one; the scale is then in the weights.

        Raises:
            KeyboardInterrupt: ``asked`` has filled; the state is saved.
        """
        if (folder / _WEIGHTS).exists():
            self._load(folder)
        saved = self.seconds
        while self.step < self.settings.steps:
            self._advance()
            advance(self.step, self.settings.steps)
            if asked or self.seconds - saved > _SECONDS:
                self._save(folder)
                saved = self.seconds
            if asked:
                raise KeyboardInterrupt
        return self._finished()

    def _advance(self) -> None:
        started = time.monotonic()
        self.trainer.step(self.batch(self.step))
        self.trainer.n_training_steps += 1
        self.seconds += time.monotonic() - started

    def _finished(self) -> BatchTopKTrainingSAE:
        self.sae.topk_threshold = self._threshold()
        self.sae.fold_activation_norm_scaling_factor(self.scale)
        self.trainer.set_final_sae_metadata()
        return self.sae.requires_grad_(False)

    @torch.no_grad()
    def _threshold(self) -> Tensor:
        """The least activation that is kept, on average over batches: sae_lens's own moving average of it begins at 0
        and lags behind, by several active latents a token in a short training."""
        least = []
        for step in range(_CALIBRATION):
            active = self.sae.encode(self.batch(self.settings.steps + step) * self.scale)
            least.append(active[active > 0].min().double())
        return torch.stack(least).mean()

    @torch.no_grad()
    def _begin_well(self) -> None:
        self.sae.b_dec.copy_(self.mean * self.scale)
        centred = self.batch(0) * self.scale - self.sae.b_dec
        first = self.sae.decode(self.sae.encode(self.batch(0) * self.scale)) - self.sae.b_dec
        self.sae.W_enc.mul_((centred * first).sum() / first.square().sum())

    def _save(self, folder: Path) -> None:
        """Write the state beside the old one and put it in its place."""
        new = folder.with_name(folder.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        torch.save({"sae": self.sae.state_dict(), "seconds": self.seconds}, new / _WEIGHTS)
        self.trainer.save_trainer_state(new)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)

    def _load(self, folder: Path) -> None:
        state = torch.load(folder / _WEIGHTS, map_location=self.device, weights_only=True)
        self.sae.load_state_dict(state["sae"])
        self.seconds = state["seconds"]
        self.trainer.load_trainer_state(folder)


def spread(tokens: Tensor) -> tuple[Tensor, float]:
    """The mean of activations (d_model,), fp32, and the factor that brings their spread about it to 1 a dimension.

    Raises:
        UsageError: there is no spread, or it is not a number.
    """
    total = torch.zeros(tokens.shape[1], dtype=torch.float64)
    for part in tokens.split(16_384):
        total += part.double().sum(0)
    mean = total / len(tokens)
    square = sum(float((part.double() - mean).square().sum()) for part in tokens.split(16_384))
    if not 0 < square < math.inf:
        raise UsageError("the stream is everywhere the same, or not finite; try another --site or --dtype float32")
    return mean.float(), (tokens.numel() / square) ** 0.5


def _new(d_in: int, settings: Settings, metadata: Mapping[str, Any]) -> BatchTopKTrainingSAE:
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    return BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(
            d_in=d_in,
            d_sae=settings.width,
            k=settings.k,
            dtype="float32",
            normalize_activations="expected_average_only_in",
            metadata=SAEMetadata(**metadata),
        )
    )


def _trainer(sae: BatchTopKTrainingSAE, settings: Settings, device: torch.device) -> SAETrainer[Any, Any]:
    from sae_lens import SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    steps = settings.steps
    config = SAETrainerConfig(
        total_training_samples=steps * settings.batch,
        train_batch_size_samples=settings.batch,
        lr=settings.lr,
        lr_end=settings.lr / 10,
        lr_scheduler_name="constant",
        lr_warm_up_steps=steps // 50,
        lr_decay_steps=steps // 3,
        device=str(device),
        dead_feature_window=max(1, min(steps // 10, _MOST_QUIET)),
        feature_sampling_window=steps,  # never reset: its statistics are those of the whole training
        logger=LoggingConfig(log_to_wandb=False),
    )
    return SAETrainer(cfg=config, sae=sae, data_provider=iter(()))


def save(sae: BatchTopKTrainingSAE, folder: Path, dtype: str) -> None:
    """Write a finished SAE as a JumpReLU SAE in sae_lens format, for everybody to read."""
    folder.mkdir(parents=True, exist_ok=True)
    sae.to(getattr(torch, dtype))
    sae.cfg.device = "cpu"
    sae.save_inference_model(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
