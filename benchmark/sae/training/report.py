"""How good an SAE is on text that it was not trained on, read as everybody reads it, from its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmark.contracts.defense import Edit, Where
from benchmark.model.edits import edited
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary
from benchmark.sae.training.activations import PASS, padded, streams

_NUMBERS = 2**26
"""Logits or activations of a pass: a quarter of a GB in fp32."""

Reconstruct = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Stream (..., d_model), fp32 -> activations (..., width) and reconstruction (..., d_model)."""


class Fidelity(NamedTuple):
    """How an SAE describes the stream. The first position of every row is left out."""

    tokens: int
    """Activations measured on."""
    explained_variance: float
    """1 - squared error / squared distance from the mean."""
    l0: float
    """Active latents a token."""
    dead: float
    """Share of latents that were active at none of ``tokens``."""


@dataclass(frozen=True)
class Health:
    """The same, and what an SAE leaves of the model's predictions behind the first position."""

    tokens: int
    explained_variance: float
    l0: float
    dead: float
    predictions: int
    """Next tokens that the cross-entropies are means over."""
    loss: float
    """Cross-entropy of the model, in nats."""
    spliced_loss: float
    """The same with the stream replaced by its reconstruction."""
    ablated_loss: float
    """The same with the stream replaced by its mean."""
    loss_recovered: float | None
    """1 - (spliced - loss) / (ablated - loss); None where ablation costs nothing."""


def reconstruction(dictionary: Dictionary) -> Reconstruct:
    """An SAE of which the input is not scaled, as those that are trained here."""
    latents = dictionary.everything

    def read(h: Tensor) -> tuple[Tensor, Tensor]:
        active = latents.encode(h).act
        return active, dictionary.decode(active)

    return read


def splice(replace: Callable[[Tensor], Tensor]) -> Edit:
    """The edit that puts ``replace(h)`` in the place of the stream, except at the first position of a text."""

    def edit(h: Tensor, where: Where) -> Tensor:
        return torch.where(where.special[..., None], h, replace(h.float()).to(h.dtype))

    return edit


def spliced(subject: Subject, dictionary: Dictionary) -> AbstractContextManager[Any]:
    """The model with the stream replaced by its reconstruction: the error term is dropped."""
    read = reconstruction(dictionary)
    return edited(subject, {dictionary.site: splice(lambda h: read(h)[1])})


@torch.no_grad()
def measured(subject: Subject, dictionary: Dictionary, rows: Sequence[Sequence[int]]) -> Health:
    """Everything there is to tell, on token rows."""
    fit = fidelity(subject, dictionary, rows)
    mean = mean_stream(subject, dictionary, rows)
    count, loss = losses(subject, rows)
    with spliced(subject, dictionary):
        _, kept = losses(subject, rows)
    with edited(subject, {dictionary.site: splice(mean.expand_as)}):
        _, ablated = losses(subject, rows)
    recovered = 1 - (kept - loss) / (ablated - loss) if ablated > loss else None
    return Health(*fit, count, loss, kept, ablated, recovered)


@torch.no_grad()
def mean_stream(subject: Subject, dictionary: Dictionary, rows: Sequence[Sequence[int]]) -> Tensor:
    """Mean of the stream at the SAE's site (d_model,), fp32."""
    total, count = torch.zeros(subject.d_model, dtype=torch.float64), 0
    for stream in _kept(subject, dictionary, rows):
        total += stream.double().sum(0).cpu()
        count += len(stream)
    return (total / count).float().to(subject.device)


@torch.no_grad()
def fidelity(subject: Subject, dictionary: Dictionary, rows: Sequence[Sequence[int]]) -> Fidelity:
    """What needs no prediction of the model."""
    read, mean = reconstruction(dictionary), mean_stream(subject, dictionary, rows)
    fired = torch.zeros(dictionary.width, dtype=torch.bool, device=subject.device)
    error = variance = active = 0.0
    count = 0
    for stream in _kept(subject, dictionary, rows):
        acts, back = read(stream)
        error += float((stream - back).square().sum(dtype=torch.float64))
        variance += float((stream - mean).square().sum(dtype=torch.float64))
        active += float((acts > 0).sum())
        fired |= (acts > 0).any(0)
        count += len(stream)
    return Fidelity(count, 1 - error / variance, active / count, 1 - float(fired.double().mean()))


def _kept(subject: Subject, dictionary: Dictionary, rows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """The stream at the SAE's site where it is measured, (tokens, d_model), fp32, a few rows at a time."""
    boundary = subject.check(dictionary.site).boundary
    room = min(PASS, max(_NUMBERS // dictionary.width, 1))
    for seen, batch in streams(subject, sorted(rows, key=len), [boundary], room):
        stream = seen[boundary]
        yield stream[batch.kept.to(stream.device)].float()


@torch.no_grad()
def losses(subject: Subject, rows: Sequence[Sequence[int]]) -> tuple[int, float]:
    """How many next tokens there are behind positions that an SAE is spliced in at, and their mean cross-entropy."""
    vocabulary = subject.model.get_output_embeddings().weight.shape[0]
    total, count = 0.0, 0
    for batch in padded(sorted(rows, key=len), min(PASS, max(_NUMBERS // vocabulary, 1))):
        ids = batch.ids.to(subject.device)
        logits = subject.model(input_ids=ids[:, :-1], use_cache=False).logits
        told = batch.kept[:, 1:].to(ids.device) & (torch.arange(ids.shape[1] - 1, device=ids.device) > 0)
        total += float(cross_entropy(logits[told].float(), ids[:, 1:][told], reduction="sum"))
        count += int(told.sum())
    return count, total / max(count, 1)
