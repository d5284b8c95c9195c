"""Packed layers give what the live ones give, and leave those alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from benchmark.model import packed as packing
from benchmark.model.packed import packed
from benchmark.model.passes import FullPass, Writes
from benchmark.model.tail import TailPass
from tests import tiny
from tests.speed.__main__ import PACKED

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


@pytest.fixture(autouse=True)
def however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LEAST", 0)


def kinds(layer: nn.Module) -> list[type]:
    return [type(m) for m in layer.modules()]


def product(layer: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    at = x.clone().requires_grad_()
    out = layer(at)
    return out.detach(), torch.autograd.grad(out.square().sum(), at)[0]


@pytest.mark.parametrize("made", [nn.Linear(12, 20), nn.Linear(12, 20, bias=False), Conv1D(20, 12)])
@pytest.mark.parametrize("shape", [(1, 1, 12), (5, 3, 12), (7, 12)])
def test_a_product_and_its_gradient_are_those_of_the_layer(made: nn.Module, shape: tuple[int, ...]) -> None:
    layer = nn.Sequential(made.requires_grad_(False))
    x = torch.randn(shape)
    (other,) = packed([layer])
    assert kinds(other) != kinds(layer)
    for mine, theirs in zip(product(other, x), product(layer, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_linear_layer_of_a_family_is_packed_and_the_live_one_stays(family: str) -> None:
    subject = tiny.subject(family)
    before = [kinds(layer) for layer in subject.layers]
    weights = {name: p.clone() for name, p in subject.model.named_parameters()}
    for layer, other in zip(subject.layers, packed(subject.layers), strict=True):
        linear = [m for m in layer.modules() if type(m) in (nn.Linear, Conv1D)]
        assert linear and sum(isinstance(m, packing._Packed) for m in other.modules()) == len(linear)
        assert not any(type(m) in (nn.Linear, Conv1D) for m in other.modules())
    assert [kinds(layer) for layer in subject.layers] == before
    assert all(torch.equal(p, weights[name]) for name, p in subject.model.named_parameters())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_tail_of_packed_layers_reads_as_the_full_pass_of_the_live_model(family: str) -> None:
    subject = tiny.subject(family)
    pack = tiny.pack(subject)
    writes = Writes((1,), pack.readout, 1, after=False)
    runs = TailPass(subject, pack, {}, writes), FullPass(subject, pack, {}, writes)
    assert runs[0].layers[0] is not subject.layers[1]
    delta = torch.randn(len(pack), 1, 1, subject.d_model)
    tail, full = (product(lambda x, run=run: run(x, pack.everyone).read.float(), delta) for run in runs)
    for mine, theirs in zip(tail, full, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_layer_is_packed_once_and_again_where_its_weights_were_written_to() -> None:
    layer = nn.Sequential(nn.Linear(8, 8, bias=False)).requires_grad_(False)
    (first,), (second,) = packed([layer]), packed([layer])
    assert first is second
    x = torch.randn(3, 8)
    with torch.no_grad():
        next(layer.parameters()).mul_(2)
    (third,) = packed([layer])
    torch.testing.assert_close(third(x), layer(x), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(first(x), layer(x), rtol=1e-2), "the old one is of the old weights"


def test_what_cannot_be_packed_is_given_back_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def live(layer: nn.Module) -> Any:
        return packed([layer])[0] is layer

    assert live(nn.Linear(8, 8)), "its gradient may be asked for"
    assert live(nn.Linear(8, 8).requires_grad_(False).bfloat16())
    plain = nn.Sequential(nn.Linear(8, 8)).requires_grad_(False)
    assert not live(plain)
    monkeypatch.setattr(packing, "MOST", 100)
    assert live(plain)
    monkeypatch.setattr(packing, "MOST", 2**20)
    monkeypatch.setattr(packing, "LEAST", 65)
    assert live(plain), "its matrix is read from the processor's cache"


def test_operations_are_counted_alike_packed_or_not() -> None:
    """Else the speed that is printed would be that of a step without its products."""
    layer, x = nn.Sequential(nn.Linear(12, 20).requires_grad_(False)), torch.randn(5, 3, 12)

    def operations(one: nn.Module) -> int:
        with FlopCounterMode(display=False, custom_mapping=PACKED) as counted:
            product(lambda at: one(at * 1), x)  # the counter follows no leaf into a module
        return counted.get_total_flops()

    assert operations(packed([layer])[0]) == operations(layer) == 2 * (2 * 5 * 3 * 12 * 20)
