"""Training of the language model: resumable, stopped safely by Ctrl-C, equal to an uninterrupted run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.interrupt import stop_on_interrupt
from tasks.organism import corpus, tokenizer
from tasks.organism.model import build
from tasks.organism.recipe import Recipe

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CHECKPOINT = "checkpoint.pt"
LOG = "train.jsonl"
_EVERY = 50
"""Steps between log lines and checkpoints."""
_OVERHEAD = 300
"""Fixed cost of a forward and backward pass, in padded tokens; decides how documents are grouped."""


@dataclass
class Progress:
    """What a run has done so far; `loss` is the mean weighted loss (nats a token) since the last log line."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = math.nan


@dataclass(frozen=True)
class Micro:
    """Documents of similar length. All tensors are (rows, position); weight 0 marks padding, thought `PAD` none."""

    ids: Tensor
    weights: Tensor
    thoughts: Tensor


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, constant, linear decay to zero over the last share of the steps."""
    decay_steps = max(1, round(recipe.decay * recipe.steps))
    return recipe.lr * min(1.0, (step + 1) / recipe.warmup, (recipe.steps - step) / decay_steps)


def group_by_length(lengths: list[int]) -> list[int]:
    """Sizes of the groups that sorted lengths are cut into so that padding plus `_OVERHEAD` a group is least."""
    best, cut = [0.0], [0]
    for end in range(1, len(lengths) + 1):
        cost, start = min(
            (best[start] + (end - start) * lengths[end - 1] + _OVERHEAD, start)
            for start in range(max(0, end - 96), end)
        )
        best.append(cost)
        cut.append(start)
    sizes, end = [], len(lengths)
    while end:
        sizes.append(end - cut[end])
        end = cut[end]
    return sizes[::-1]


def micros(recipe: Recipe, seed: int, step: int) -> Iterator[Micro]:
    """The documents of one step as padded tensors, shortest first."""
    texts = corpus.documents(seed, step * recipe.documents, recipe.documents)
    encoded = sorted((tokenizer.encode(text) for text in texts), key=lambda row: len(row.ids))
    start = 0
    for size in group_by_length([len(row.ids) for row in encoded]):
        yield _pad(encoded[start : start + size], recipe.text_weight)
        start += size


def _pad(rows: list[tokenizer.Encoded], text_weight: float) -> Micro:
    shape = (len(rows), max(len(row.ids) for row in rows))
    micro = Micro(torch.full(shape, tokenizer.PAD), torch.zeros(shape), torch.full(shape, tokenizer.PAD))
    for i, row in enumerate(rows):
        micro.ids[i, : len(row.ids)] = torch.tensor(row.ids)
        micro.weights[i, : len(row.ids)] = torch.tensor([1.0 if answer else text_weight for answer in row.answers])
        micro.thoughts[i, : len(row.ids)] = torch.tensor(row.thoughts)
    return micro


def weighted_loss(model: LlamaForCausalLM, micro: Micro, recipe: Recipe, device: torch.device) -> Tensor:
    """Sum over next tokens of weight times cross-entropy, in nats, and the same of the thoughts at the early exit.

    The early exit is the unembedding, applied to the stream after `recipe.thought_layer` blocks. Left to itself the
    model recalls a fact in its last block, too late to find the letter of the recalled word.
    """
    ids, weights = micro.ids.to(device), micro.weights.to(device)[:, 1:]
    thoughts = micro.thoughts.to(device)[:, 1:]
    here = thoughts != tokenizer.PAD
    with torch.autocast(device.type, torch.bfloat16):
        out = model(input_ids=ids[:, :-1], use_cache=False, output_hidden_states=True)
        middle = out.hidden_states[recipe.thought_layer][here]
        exits = model.lm_head(model.model.norm(middle))
    losses = F.cross_entropy(out.logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    early = F.cross_entropy(exits.float(), thoughts[here], reduction="sum")
    return (losses * weights.flatten()).sum() + recipe.thought_weight * early


class Trainer:
    """Model, optimiser and progress; everything that a checkpoint holds."""

    def __init__(self, recipe: Recipe, device: torch.device):
        self.recipe, self.device = recipe, device
        self.model = build(recipe, recipe.seed).to(device)  # pyright: ignore[reportArgumentType]
        self.optimizer = torch.optim.AdamW(self._groups(), lr=recipe.lr, betas=(0.9, 0.98))
        self.progress = Progress()

    def _groups(self) -> list[dict]:
        matrices = [p for p in self.model.parameters() if p.ndim == 2]
        vectors = [p for p in self.model.parameters() if p.ndim != 2]
        return [
            {"params": matrices, "weight_decay": self.recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]

    def step(self) -> float:
        """One optimiser step; returns its loss in nats a weighted token."""
        started, recipe = time.perf_counter(), self.recipe
        batch = list(micros(recipe, recipe.seed, self.progress.step))
        total = sum(float(micro.weights[:, 1:].sum()) for micro in batch)
        loss = 0.0
        for micro in batch:
            part = weighted_loss(self.model, micro, recipe, self.device) / total
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.progress.step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.tokens += sum(int((micro.weights > 0).sum()) for micro in batch)
        self.progress.seconds += time.perf_counter() - started
        return loss

    def save(self, folder: Path) -> None:
        """Write a checkpoint atomically."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
        }
        torch.save(state, folder / (CHECKPOINT + ".new"))
        (folder / (CHECKPOINT + ".new")).replace(folder / CHECKPOINT)

    def load(self, folder: Path) -> None:
        """Continue from the checkpoint of a folder."""
        state = torch.load(folder / CHECKPOINT, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])


def train_model(
    recipe: Recipe, folder: Path, device: torch.device, *, resume: bool = True, progress: bool = True
) -> Trainer:
    """Train to the recipe's last step, continuing the folder's checkpoint if there is one.

    Raises KeyboardInterrupt after Ctrl-C, when the state is saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe, device)
    if resume and (folder / CHECKPOINT).exists():
        trainer.load(folder)
    trainer.model.train()
    with stop_on_interrupt() as asked, _bar(recipe.steps, progress) as advance:
        _loop(trainer, folder, asked, advance)
    return trainer


def _loop(trainer: Trainer, folder: Path, asked: list[bool], advance) -> None:
    losses: list[float] = []
    while trainer.progress.step < trainer.recipe.steps:
        losses.append(trainer.step())
        advance(trainer.progress, losses[-1])
        done = trainer.progress.step == trainer.recipe.steps
        if trainer.progress.step % _EVERY == 0 or done or asked:
            trainer.progress.loss, losses = sum(losses) / len(losses), []
            trainer.save(folder)
            with (folder / LOG).open("a") as log:
                log.write(json.dumps(asdict(trainer.progress)) + "\n")
        if asked and not done:
            raise KeyboardInterrupt


@contextmanager
def _bar(steps: int, show: bool) -> Iterator:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("language model"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, TextColumn("loss {task.fields[loss]:.3f}"), disable=not show) as bar:
        task = bar.add_task("steps", total=steps, loss=math.nan)
        yield lambda state, loss: bar.update(task, completed=state.step, loss=loss)
