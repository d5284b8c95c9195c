"""Frozen layers compute what they always do, forward and backward, and other kernels serve only where they may."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from benchmark.model import frozen_layers
from benchmark.model.frozen_layers import FrozenLayers, FrozenLinear, Shelf, serves
from benchmark.model.passes import TailPass, Writes
from tests import tiny

EMPTY = Shelf()
EMPTY.room = 0
SHAPES = [(5,), (1, 5), (16, 5), (3, 4, 5)]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the factors that reach the blocked kernel from here on."""
    shapes: list[tuple[int, ...]] = []
    product = frozen_layers._product
    monkeypatch.setattr(
        frozen_layers, "_product", lambda x, y, b: shapes.append((*x.shape, *y.shape)) or product(x, y, b)
    )
    return shapes


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("room", [False, True])
def test_it_is_a_linear_map_and_so_is_its_gradient(
    shape: tuple[int, ...], biased: bool, transposed: bool, room: bool
) -> None:
    weight = random(5, 7).T if transposed else random(7, 5)
    bias = random(7) if biased else None
    x = random(*shape).requires_grad_()
    expected, found = linear(x, weight, bias), FrozenLinear.apply(x, weight, bias, Shelf() if room else EMPTY)
    torch.testing.assert_close(found, expected)
    seed = random(*expected.shape)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, seed)[0] for y in (found, expected)))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_batch_of_gradients_goes_back_at_once(transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = random(3, 5).requires_grad_(), random(5, 7).T if transposed else random(7, 5)
    seeds, shapes = random(4, 3, 7), used(monkeypatch)
    found, expected = (
        torch.autograd.grad(f(x, weight, random(7)), x, seeds, is_grads_batched=True)[0]
        for f in (lambda *args: FrozenLinear.apply(*args, Shelf()), linear)
    )
    torch.testing.assert_close(found, expected)
    assert len(shapes) == 1  # forward; backward not one by one


@pytest.mark.parametrize("layer", [nn.Linear(5, 7), nn.Linear(5, 7, bias=False), Conv1D(7, 5)])
def test_frozen_layers_go_through_it_inside_the_block_alone(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer.requires_grad_(False)
    x, shapes = random(2, 3, 5), used(monkeypatch)
    expected = layer(x)
    assert not shapes
    with FrozenLayers([layer]):
        found = layer(x)
    assert len(shapes) == 1
    layer(x)
    assert len(shapes) == 1
    torch.testing.assert_close(found, expected)


def test_a_layer_with_a_forward_of_its_own_keeps_it() -> None:
    layer = nn.Linear(5, 7).requires_grad_(False)
    layer.forward = lambda x: x  # pyright: ignore[reportAttributeAccessIssue]
    x = random(3, 5)
    with FrozenLayers([layer]):
        assert layer(x) is x
    assert layer(x) is x


@pytest.mark.parametrize("wanted", ["weight", "bias"])
def test_a_weight_that_wants_a_gradient_gets_one(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(5, 7).requires_grad_(False)
    getattr(layer, wanted).requires_grad_(True)
    shapes = used(monkeypatch)
    with FrozenLayers([layer]):
        layer(random(3, 5)).sum().backward()
    assert not shapes and getattr(layer, wanted).grad.abs().sum() > 0


def test_a_weight_is_copied_once_for_each_direction() -> None:
    weight, shelf = random(7, 5), Shelf()
    x = random(3, 5).requires_grad_()
    for _ in range(3):
        FrozenLinear.apply(x, weight, None, shelf).sum().backward()
    assert len(shelf.copies) == 2
    assert shelf.room == Shelf().room - 2 * weight.nbytes


def test_a_changed_weight_is_copied_anew() -> None:
    weight, x, shelf = random(7, 5), random(3, 5), Shelf()
    before, room = FrozenLinear.apply(x, weight, None, shelf), shelf.room
    weight.mul_(2)
    torch.testing.assert_close(FrozenLinear.apply(x, weight, None, shelf), 2 * before)
    assert shelf.room == room


def test_the_address_of_a_copied_weight_is_not_given_to_another() -> None:
    x, shelf = random(3, 64), Shelf()
    for i in range(20):
        weight = torch.full((64, 64), float(i))
        torch.testing.assert_close(FrozenLinear.apply(x, weight, None, shelf), x @ weight.T)
        del weight


def test_what_finds_no_room_is_not_copied() -> None:
    weight, shelf = random(7, 5), Shelf()
    shelf.room = weight.nbytes
    assert shelf(weight) is not None and shelf(weight.T) is None and shelf(weight) is not None


def test_the_activation_of_gpt2_and_its_gradient() -> None:
    layer, x = NewGELUActivation(), (4 * random(200)).requires_grad_()
    expected = layer(x)
    with FrozenLayers([layer]):
        found = layer(x)
    assert "Gelu" in found.grad_fn.name() and "Gelu" not in expected.grad_fn.name()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y.sum(), x)[0] for y in (found, expected)))


def test_other_dtypes_devices_and_shapes_stay_as_they_are() -> None:
    x, weight, bias = random(3, 5), random(7, 5), random(7)
    assert serves(x, weight) and serves(x, weight, bias)
    for dtype in (torch.float64, torch.bfloat16):
        assert not serves(x.to(dtype), weight.to(dtype)) and not serves(x.to(dtype), weight)
    assert not serves(x.to("meta"), weight.to("meta"))
    assert not serves(x, weight[0]) and not serves(x, weight, bias[:1])
    layer = nn.Linear(5, 7, dtype=torch.float64).requires_grad_(False)
    with FrozenLayers([layer]):
        torch.testing.assert_close(layer(x.double()), x.double() @ layer.weight.T + layer.bias)


def test_without_the_kernel_everything_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_layers, "AVAILABLE", False)
    layer, shapes = nn.Linear(5, 7).requires_grad_(False), used(monkeypatch)
    with FrozenLayers([layer]):
        torch.testing.assert_close(layer(random(3, 5)), random(3, 5) @ layer.weight.T + layer.bias)
    assert not shapes


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_weight_of_a_tail_pass_goes_through_it(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tiny.bare(family)
    pack, writes = tiny.pack(subject), Writes((2,), 9, 3, False)
    run = TailPass(subject, pack, {}, writes)
    maps = sum(isinstance(m, nn.Linear | Conv1D) for layer in subject.layers[2:] for m in layer.modules())
    shapes = used(monkeypatch)
    delta = torch.zeros(3, 1, 3, subject.d_model, requires_grad=True)
    read = run(delta, torch.arange(3)).read
    assert len(shapes) == maps
    torch.autograd.grad(read.sum(), delta)
    assert len(shapes) == 2 * maps
