"""How long one step of an attack takes, a row: ours, the batched full pass, and the loop that published code runs.

    make speed

A GPT-2-small-shaped random model, 64 tokens, site at layer 4 of 12, one perturbed position, two logits read. Nothing is
asserted about time. They take turns; the ratios at the end are medians over the turns.
"""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from benchmark.contracts.defense import Where
from benchmark.contracts.example import Example
from benchmark.model.edits import is_special
from benchmark.model.pack import Pack
from benchmark.model.passes import FullPass, TailPass, Writes
from benchmark.model.subject import Subject
from benchmark.readouts.choices import TokenReader

LENGTH, LAYER, WIDTH, ROWS, TURNS = 64, 4, 24_576, 16, 5
MEDIANS: dict[str, list[float]] = defaultdict(list)
"""Seconds a step and row, the median of each turn."""


@pytest.fixture(scope="session", autouse=True)
def ratios() -> Iterator[None]:
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # the other tests run on one
    yield
    ours = MEDIANS["ours"]
    print(f"\n\nper step and row, medians of {len(ours)} turns ({torch.get_num_threads()} threads):")
    for name, seconds in MEDIANS.items():
        ratios = [theirs / our for theirs, our in zip(seconds, ours, strict=False)]
        if ratios:
            shown = f"{statistics.median(ratios):7.1f} x ours ({min(ratios):.1f} to {max(ratios):.1f})"
            print(f"  {name:<60} {1e3 * statistics.median(seconds):9.2f} ms   {shown}")


@pytest.fixture(scope="session", params=range(TURNS), autouse=True)
def turn(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="session")
def gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config()).eval()


def frozen_pass(kind: type, gpt2: Any, rows: int) -> Callable[[], Tensor]:
    """One step of ``kind`` over a batch, parameters frozen, gradient to the perturbation only."""
    subject = Subject(gpt2, SimpleNamespace(bos_token_id=None, pad_token_id=None), "gpt2")
    ids = torch.randint(50_000, (rows, LENGTH))
    where = Where(torch.arange(LENGTH), is_special(subject, ids), torch.zeros(rows, LENGTH, dtype=torch.bool))
    choices = torch.randint(50_000, (rows, 2))
    pack = Pack((Example("", "", ""),) * rows, ids, TokenReader(choices), LENGTH - 1, LENGTH, where)
    run = kind(subject, pack, {}, Writes((LAYER,), LENGTH - 1, 1, after=False))
    index = torch.arange(rows)

    def step() -> Tensor:
        delta = torch.zeros(rows, 1, 1, subject.d_model, requires_grad=True)
        read = run(delta, index).read
        return torch.autograd.grad((read[:, 0] - read[:, 1]).sum(), delta)[0]

    return step


def published_loop(gpt2: Any) -> Callable[[], Tensor]:
    """One step for one example as in published code: full pass, parameter gradients, the whole SAE in a hook.

    The SAE is an object of sae_lens as it comes from there, its parameters wanting gradients as the model's do.
    """
    sae = StandardSAE(StandardSAEConfig(d_in=768, d_sae=WIDTH))
    clamped = torch.arange(8)
    ids = torch.randint(50_000, (1, LENGTH))
    last = torch.nn.functional.one_hot(torch.tensor(LENGTH - 1), LENGTH)[None, :, None]

    def step() -> Tensor:
        gpt2.requires_grad_(True)
        delta = torch.zeros(1, 1, 768, requires_grad=True)

        def hook(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            latents = sae.encode(args[0])
            error = args[0] - sae.decode(latents)
            return (sae.decode(latents.index_fill(-1, clamped, 0)) + error + last * delta, *args[1:])

        handle = gpt2.transformer.h[LAYER].register_forward_pre_hook(hook)
        try:
            logits = gpt2(ids, use_cache=False).logits[0, -1]
        finally:
            handle.remove()
        (logits[5] - logits[6]).backward()
        gpt2.zero_grad()
        sae.zero_grad()
        gpt2.requires_grad_(False)
        assert delta.grad is not None
        return delta.grad

    return step


def record(benchmark: Any, name: str, rows: int) -> None:
    MEDIANS[name].append(benchmark.stats.stats.median / rows)


def test_ours(benchmark: Any, gpt2: Any) -> None:
    assert benchmark.pedantic(frozen_pass(TailPass, gpt2, ROWS), rounds=25, warmup_rounds=5).abs().sum() > 0
    record(benchmark, "ours", ROWS)


def test_ours_in_larger_packs(benchmark: Any, gpt2: Any) -> None:
    assert benchmark.pedantic(frozen_pass(TailPass, gpt2, 4 * ROWS), rounds=9, warmup_rounds=2).abs().sum() > 0
    record(benchmark, f"ours, packs of {4 * ROWS}", 4 * ROWS)


def test_batched_full_pass(benchmark: Any, gpt2: Any) -> None:
    assert benchmark.pedantic(frozen_pass(FullPass, gpt2, ROWS), rounds=3, warmup_rounds=1).abs().sum() > 0
    record(benchmark, "(a) batched full pass, parameters frozen, readout logits", ROWS)


def test_published_loop(benchmark: Any, gpt2: Any) -> None:
    assert benchmark.pedantic(published_loop(gpt2), rounds=5, warmup_rounds=1).abs().sum() > 0
    record(benchmark, "(b) published loop: batch 1, parameter gradients, whole SAE", 1)
