"""Attention to a prefix and a tail is attention to the two joined; only the tail gets a gradient."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attention
from transformers.models.gemma2.modeling_gemma2 import repeat_kv

from benchmark.model import recorded
from benchmark.model.passes import Writes
from benchmark.model.prefix import Joined
from benchmark.model.tail import TailPass
from tests import tiny

ROWS, HEADS, PREFIX, TAIL, SIZE = 2, 4, 5, 3, 8
VISIBLE = torch.ones(TAIL, PREFIX + TAIL, dtype=torch.bool).tril(PREFIX)
MASKS: dict[str, Tensor | None] = {
    "none": None,
    "boolean": VISIBLE,
    "added": torch.zeros(1, 1, TAIL, PREFIX + TAIL).masked_fill(~VISIBLE, -torch.inf),
}


def parts(heads: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, keys and values of the tail, keys and values of the prefix."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(HEADS, TAIL), (heads, TAIL), (heads, TAIL), (heads, PREFIX), (heads, PREFIX)]
    made = [torch.randn(ROWS, *shape, SIZE, generator=generator).to(dtype) for shape in shapes]
    return [x.requires_grad_(i < 3) for i, x in enumerate(made)]


def both(heads: int = HEADS, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradients, with parts and with one tensor."""
    query, key, value, keys, values = parts(heads, dtype)
    found = attention(query, Joined(keys, key), Joined(values, value), **options)  # type: ignore[arg-type]
    expected = attention(query, torch.cat([keys, key], 2), torch.cat([values, value], 2), **options)
    wanted = torch.linspace(-1, 1, found.numel(), dtype=dtype).view_as(found)
    return tuple([y, *torch.autograd.grad(y, (query, key, value), wanted)] for y in (found, expected))  # type: ignore


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for everything that was joined."""
    count: list[int] = []
    join = Joined.__dict__["whole"].func
    monkeypatch.setattr(Joined, "whole", property(lambda self: count.append(1) or join(self)))
    return count


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_values_and_gradients_are_those_of_joined_keys(mask: str, scale: float | None, joins: list[int]) -> None:
    torch.testing.assert_close(*both(attn_mask=MASKS[mask], scale=scale))
    assert not joins


def test_query_heads_may_share_a_key_head(joins: list[int]) -> None:
    torch.testing.assert_close(*both(heads=2, enable_gqa=True))
    assert not joins
    torch.testing.assert_close(*both(heads=2, enable_gqa=True, attn_mask=VISIBLE))
    assert len(joins) == 2  # a mask for shared heads is left to the original


@pytest.mark.parametrize("options", [{"is_causal": True}, {"dtype": torch.float64}])
def test_what_it_is_not_made_for_is_left_to_the_original(options: dict[str, Any], joins: list[int]) -> None:
    torch.testing.assert_close(*both(**options))
    assert len(joins) == 2


def test_the_mask_matters() -> None:
    """Negative control: with another mask the comparison fails."""
    (found, *_), _ = both(attn_mask=VISIBLE)
    _, (expected, *_) = both()
    assert (found - expected).abs().max() > 1e-2


def test_to_anything_else_it_is_one_tensor() -> None:
    _, key, _, keys, _ = parts(HEADS)
    joined: Any = Joined(keys, key)
    whole = torch.cat([keys, key], 2)
    assert joined.shape == whole.shape and joined.device == whole.device and joined.size(2) == PREFIX + TAIL
    query = torch.ones(ROWS, HEADS, 1, SIZE)
    assert torch.equal(query @ joined.transpose(-1, -2), query @ whole.transpose(-1, -2))
    assert torch.equal(torch.matmul(joined, query.mT), torch.matmul(whole, query.mT))
    assert torch.equal(joined[:, :, None], whole[:, :, None])
    assert torch.autograd.grad(joined.sum(), key)[0].eq(1).all()


@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("filling", [0, 3])
@pytest.mark.parametrize("by", [torch.matmul, torch.Tensor.matmul, operator.matmul])
def test_products_step_by_step_join_nothing(shared: int, filling: int, by: Any, joins: list[int]) -> None:
    """As attention is written out where scores are bent, also where the prefix is filled up with zeros."""
    query, key, value, keys, values = parts(HEADS // shared)
    found, expected = [], []
    for places, of in ((found, "parts"), (expected, "one tensor")):
        k: Any = torch.cat([keys, key], 2)
        v: Any = torch.cat([values, value], 2)
        if of == "parts":
            long, wide = (torch.nn.functional.pad(x, (0, 0, 0, filling)) for x in (keys, values))
            k, v = Joined(long, key, length=PREFIX), Joined(wide, value, length=PREFIX)
        k, v = repeat_kv(k, shared), repeat_kv(v, shared)
        assert k.shape == (ROWS, HEADS, PREFIX + TAIL, SIZE) and k.transpose(2, 3).shape == k.shape[:2] + (
            SIZE,
            PREFIX + TAIL,
        )
        scores = torch.tanh(by(query, k.transpose(2, 3)))
        out = by(scores.softmax(-1), v)
        wanted = torch.linspace(-1, 1, out.numel()).view_as(out)
        places += [scores, out, *torch.autograd.grad(out, (query, key, value), wanted)]
    torch.testing.assert_close(found, expected)
    assert not joins


def test_other_ways_to_repeat_keys_get_one_tensor(joins: list[int]) -> None:
    _, key, _, keys, _ = parts(2)
    joined: Any = Joined(keys, key)
    whole = torch.cat([keys, key], 2)
    repeated = (ROWS, 2, 2, PREFIX + TAIL, SIZE)
    each, spread = whole[:, :, None].expand(repeated), joined[:, :, None, :, :]
    assert torch.equal(spread.expand(*repeated).flatten(1, 2), each.flatten(1, 2))
    assert torch.equal(spread.expand(ROWS, 2, -1, -1, -1), whole[:, :, None])
    assert torch.equal(spread + torch.ones(1), whole[:, :, None] + 1)
    assert torch.equal(torch.mul(spread.expand(*repeated), 2), each * 2)
    flat = ROWS * 4, PREFIX + TAIL, SIZE
    assert torch.equal(spread.expand(*repeated).reshape(*flat), each.reshape(flat))
    assert torch.equal(joined.transpose(0, 1), whole.transpose(0, 1))
    assert torch.equal(torch.add(joined.transpose(-1, 2), 0), whole.mT)
    assert torch.equal(repeat_kv(joined, 2).sum(1), each.flatten(1, 2).sum(1))
    assert joins


def test_what_is_absent_is_in_no_product() -> None:
    query, key, _, keys, _ = parts(HEADS)
    absent = torch.zeros(ROWS, PREFIX, dtype=torch.bool)
    with pytest.raises(TypeError, match="absent columns"):
        torch.matmul(query, Joined(keys, key, absent).transpose(2, 3))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_tail_pass_joins_nothing(family: str, joins: list[int]) -> None:
    """Nor does one whose attention is written out, as Gemma 2's is."""
    subject = tiny.bare(family)
    run = TailPass(subject, tiny.pack(subject), {}, Writes((2,), 11, 1, False))
    delta = torch.zeros(3, 1, 1, subject.d_model, requires_grad=True)
    torch.autograd.grad(run(delta, torch.arange(3)).read.sum(), delta)
    assert not joins


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_prefix_may_be_filled_up(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For products that a GPU does fast."""
    subject = tiny.bare(family)
    delta = torch.randn(3, 1, 1, subject.d_model, generator=torch.Generator().manual_seed(0))

    def found() -> Tensor:
        run = TailPass(subject, tiny.pack(subject), {}, Writes((2,), 11, 1, False))
        reads = []
        for rows in ([0, 1, 2], [2, 0, 1], [0, 1]):
            at = delta[: len(rows)].clone().requires_grad_()
            read = run(at, torch.tensor(rows)).read
            reads += [read.detach(), torch.autograd.grad(read.sum(), at)[0]]
        return torch.cat([x.flatten() for x in reads])

    expected = found()
    monkeypatch.setattr(recorded, "_missing", lambda columns: -columns.shape[2] % 8)
    torch.testing.assert_close(found(), expected, rtol=1e-4, atol=1e-5)
    if family == "llama":  # negative control: what fills it is attended to
        monkeypatch.setattr(recorded, "Joined", lambda *parts, length: Joined(*parts))
        assert (found() - expected).abs().max() > 1e-3
