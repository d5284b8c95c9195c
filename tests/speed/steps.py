"""One step of an attack: the gradient of the difference of two logits to one position of the stream, under a clamp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmark.contracts.defense import Where
from benchmark.contracts.example import Example
from benchmark.model.edits import by_boundary, is_special
from benchmark.model.pack import Pack
from benchmark.model.passes import FullPass, Writes
from benchmark.model.subject import Subject
from benchmark.model.tail import TailBatch, TailPass
from benchmark.readouts.choices import TokenReader
from benchmark.sae.dictionary import Dictionary
from benchmark.sae.layouts.normal import Sae
from benchmark.sites import Site
from defenses.clamp_edit import ClampEdit
from tests.speed.shapes import LENGTH

CLAMPED = 8
"""Latents."""

Step = Callable[[], Tensor]
T = TypeVar("T", bound=TailPass | FullPass)


def site_of(subject: Subject) -> int:
    """A third of the way up."""
    return subject.n_layers // 3


def sae(d_model: int, width: int) -> Sae:
    """A random one."""
    encoder, decoder = torch.randn(d_model, width) / d_model**0.5, torch.randn(width, d_model) / d_model**0.5
    return Sae("standard", encoder, decoder, torch.zeros(width), torch.zeros(d_model))


def ours(subject: Subject, kind: type[TailPass | FullPass], rows: int, dictionary: Sae, length: int = LENGTH) -> Step:
    """A step of ``kind`` over a pack of ``rows`` prompts of ``length`` tokens."""
    run, index = _pass(subject, kind, rows, dictionary, length), torch.arange(rows, device=subject.device)

    def step() -> Tensor:
        delta = _nothing(subject, rows)
        return _slope(run(delta, index).read, delta)

    return step


def mixed(subject: Subject, rows: int, dictionary: Sae, lengths: int, *, together: bool) -> Step:
    """A step over ``rows`` prompts of so many lengths, in packs of one length: as one, or one after the other."""
    each = rows // lengths
    tails = [_pass(subject, TailPass, each, dictionary, LENGTH - k) for k in range(lengths)]
    index, batch = torch.arange(each, device=subject.device), TailBatch(tails)

    def as_one() -> Tensor:
        delta = _nothing(subject, rows)
        seen = batch({k: (part, index) for k, part in enumerate(delta.split(each))})
        return _slope(torch.cat([seen[k].read for k in range(lengths)]), delta)

    def alone() -> Tensor:
        slopes = []
        for tail in tails:
            delta = _nothing(subject, each)
            slopes.append(_slope(tail(delta, index).read, delta))
        return torch.cat(slopes)

    return as_one if together else alone


def _pass(subject: Subject, kind: type[T], rows: int, dictionary: Sae, length: int) -> T:
    device, layer = subject.device, site_of(subject)
    vocabulary = subject.model.config.vocab_size
    ids = torch.randint(vocabulary, (rows, length), device=device)
    nowhere = torch.zeros_like(ids, dtype=torch.bool)
    where = Where(torch.arange(length, device=device), is_special(subject, ids), nowhere)
    reader = TokenReader(torch.randint(vocabulary, (rows, 2), device=device))
    pack = Pack((Example("", "", ""),) * rows, ids, reader, length - 1, length, where)
    site = Site(layer)
    features = Dictionary(site, "random", dictionary, device).features(range(CLAMPED))
    edits = by_boundary(subject, {site: ClampEdit(features, "zero", torch.zeros(CLAMPED, device=device))})
    return kind(subject, pack, edits, Writes((layer,), length - 1, 1, after=False))


def _nothing(subject: Subject, rows: int) -> Tensor:
    return torch.zeros(rows, 1, 1, subject.d_model, device=subject.device, requires_grad=True)


def _slope(read: Tensor, delta: Tensor) -> Tensor:
    return torch.autograd.grad((read[:, 0] - read[:, 1]).sum(), delta)[0]


class _Whole(nn.Module):
    """An SAE as published code runs it: every latent, and parameters that want gradients."""

    def __init__(self, from_: Sae, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.W_enc, self.W_dec, self.b_enc, self.b_dec = (
            nn.Parameter(x.to(device, dtype)) for x in (from_.W_enc, from_.W_dec, from_.b_enc, from_.b_dec)
        )

    def encode(self, h: Tensor) -> Tensor:
        return torch.relu(h @ self.W_enc + self.b_enc)

    def decode(self, latents: Tensor) -> Tensor:
        return latents @ self.W_dec + self.b_dec


def published(subject: Subject, dictionary: Sae) -> Step:
    """A step for one example as in published code: full pass, parameter gradients, the whole SAE in a hook."""
    device, model = subject.device, subject.model
    whole = _Whole(dictionary, device, subject.dtype)
    clamped = torch.arange(CLAMPED, device=device)
    ids = torch.randint(model.config.vocab_size, (1, LENGTH), device=device)
    last = (torch.arange(LENGTH, device=device) == LENGTH - 1)[None, :, None].to(subject.dtype)

    def step() -> Tensor:
        model.requires_grad_(True)
        delta = torch.zeros(1, 1, subject.d_model, device=device, dtype=subject.dtype, requires_grad=True)

        def hook(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            latents = whole.encode(args[0])
            error = args[0] - whole.decode(latents)
            return (whole.decode(latents.index_fill(-1, clamped, 0)) + error + last * delta, *args[1:])

        handle = subject.layers[site_of(subject)].register_forward_pre_hook(hook)
        try:
            logits = model(ids, use_cache=False).logits[0, -1]
        finally:
            handle.remove()
        (logits[5] - logits[6]).backward()
        model.zero_grad()
        whole.zero_grad()
        model.requires_grad_(False)
        assert delta.grad is not None
        return delta.grad

    return step
