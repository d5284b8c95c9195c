"""The tail pass is the full pass: readout, streams and gradients, whatever is edited and wherever it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.contracts.defense import Edit, Where
from benchmark.model.edits import is_special
from benchmark.model.pack import Pack
from benchmark.model.passes import FullPass, Seen, Writes
from benchmark.model.subject import Subject
from benchmark.model.tail import TailPass, final_norm
from benchmark.readouts.choices import TokenReader
from tests import tiny

PLACES = [(0,), (2,), (tiny.LAYERS,), (1, 3)]
ROWS = torch.tensor([2, 0, 2, 1])
"""Rows need not be in the pack's order, nor different."""


class Bend:
    """An edit that treats every position alone and spares BOS."""

    position_wise = True

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.matrix = 0.2 * torch.randn(tiny.D_MODEL, tiny.D_MODEL, generator=generator)

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return h + torch.tanh(h @ self.matrix.to(h)) * ~where.special[..., None]


class Mix(Bend):
    """An edit that looks at all positions and makes no promise."""

    position_wise = False

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return super().__call__(h, where) + 0.3 * h.mean(1, keepdim=True)


def choices(pack: Pack) -> Tensor:
    assert isinstance(pack.reader, TokenReader)
    return pack.reader.tokens


def edits_for(sites: tuple[int, ...]) -> Iterator[tuple[str, dict[int, Edit]]]:
    yield "no edit", {}
    yield "position-wise", {b: Bend(b) for b in sites}
    yield "looking around", {b: Mix(b) for b in sites}
    above = min(sites[0] + 1, tiny.LAYERS)
    yield "position-wise above, looking around below", {above: Bend(7), **({sites[0] - 1: Mix(8)} if sites[0] else {})}
    yield "looking around above", {above: Mix(9)}


def perturbation(subject: Subject, writes: Writes) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (len(ROWS), len(writes.boundaries), writes.width, subject.d_model)
    return torch.randn(shape, generator=generator).to(subject.dtype)


def sloped(run: FullPass | TailPass, delta: Tensor) -> tuple[Seen, Tensor]:
    """What a pass gives, and the gradient of everything it gives."""
    at = delta.clone().requires_grad_()
    observed = frozenset({*run.writes.boundaries, tiny.LAYERS})
    seen = run(at, ROWS, observed)
    parts = [seen.read, *seen.stream.values()]
    total = sum((p * torch.linspace(-1, 1, p.numel(), dtype=p.dtype).view(p.shape)).sum() for p in parts)
    assert isinstance(total, Tensor)
    return seen, torch.autograd.grad(total, at)[0]


def gap(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert a.shape == b.shape
    return float((a - b).detach().abs().max() / a.detach().abs().max())


def gaps(full: FullPass, tail: TailPass, delta: Tensor) -> dict[str, float]:
    (a, slope_a), (b, slope_b) = sloped(full, delta), sloped(tail, delta)
    assert a.stream.keys() == b.stream.keys()
    streams = max(gap(a.stream[k], b.stream[k]) for k in a.stream)
    return {"read": gap(a.read, b.read), "stream": streams, "gradient": gap(slope_a, slope_b)}


def compare(subject: Subject, pack: Pack, edits: Mapping[int, Edit], writes: Writes) -> dict[str, float]:
    full, tail = FullPass(subject, pack, edits, writes), TailPass(subject, pack, edits, writes)
    return gaps(full, tail, perturbation(subject, writes))


@pytest.fixture(scope="module", params=list(tiny.FAMILIES))
def subject(request: Any) -> Subject:
    return tiny.bare(request.param)


@pytest.mark.parametrize("sites", PLACES, ids=str)
def test_the_tail_pass_equals_the_full_pass(subject: Subject, sites: tuple[int, ...]) -> None:
    """Every pair of an edit, a width and a side of the edit is there; all three together are not."""
    pack = tiny.pack(subject)
    for i, (name, edits) in enumerate(edits_for(sites)):
        for width, after in ((1, i % 2 == 0), (3, i % 2 == 1)):
            found = compare(subject, pack, edits, Writes(sites, pack.readout + 1 - width, width, after))
            assert max(found.values()) < 1e-4, (name, width, after, found)


@pytest.mark.parametrize("family", [f for f in tiny.FAMILIES if f != "gemma2"])  # its attention softmax is fp32
def test_in_double_precision_they_agree_to_rounding(family: str) -> None:
    subject, sites = tiny.bare(family), (1, 3)
    subject.model.double()
    pack = tiny.pack(subject)
    for (name, edits), after in product(edits_for(sites), (True, False)):
        found = compare(subject, pack, edits, Writes(sites, pack.readout - 2, 3, after))
        assert found.pop("read") < 1e-6, name  # a readout is fp32
        assert max(found.values()) < 1e-9, (name, after, found)


def test_perturbed_columns_need_not_end_at_the_readout(subject: Subject) -> None:
    pack = tiny.pack(subject)
    found = compare(subject, pack, {3: Bend()}, Writes((1,), 4, 2, after=False))
    assert max(found.values()) < 1e-4, found


@pytest.mark.parametrize("back", [0, 2])
def test_with_a_soft_suffix_the_tail_begins_at_its_first_token(subject: Subject, back: int) -> None:
    """``back``: tokens of an assistant header behind the suffix."""
    plain = tiny.pack(subject, suffix_at=12 - back)
    pack = plain.with_suffix(3)
    assert pack.readout == plain.readout + 3 == pack.length - 1
    for edits in ({}, {2: Bend()}, {0: Bend(), 4: Bend(1)}, {2: Mix()}):
        writes = Writes((0,), pack.suffix_at, 3, after=False)
        tail = TailPass(subject, pack, edits, writes)
        alone = not any(isinstance(e, Mix) for e in edits.values())
        assert tail.recorded.hidden.shape[1] == (3 + back if alone else pack.length)
        found = gaps(FullPass(subject, pack, edits, writes), tail, perturbation(subject, writes))
        assert max(found.values()) < 1e-4, found


def test_a_suffix_is_inserted_and_nothing_else_changes() -> None:
    subject = tiny.bare("llama")
    plain = tiny.pack(subject, suffix_at=10)
    pack = plain.with_suffix(4)
    assert torch.equal(pack.ids[:, :10], plain.ids[:, :10]) and torch.equal(pack.ids[:, 14:], plain.ids[:, 10:])
    assert (pack.ids[:, 10:14] == plain.ids[:, 9:10]).all()
    assert pack.where.index.tolist() == list(range(16))
    assert torch.equal(pack.where.special.nonzero(), plain.where.special.nonzero())


@pytest.mark.parametrize("suffix_at", [1, 3, 12])
def test_a_suffix_is_no_place_that_an_edit_spares(suffix_at: int) -> None:
    """Also behind a BOS: what the attacker writes is ordinary text, to both passes."""
    subject = tiny.bare("llama")
    plain = tiny.pack(subject, suffix_at=suffix_at)
    plain.ids[1, 2] = plain.ids[2, 11] = 1
    pack = replace(plain, where=replace(plain.where, special=is_special(subject, plain.ids))).with_suffix(2)
    assert torch.equal(pack.where.special, is_special(subject, pack.ids))
    assert not pack.where.special[:, suffix_at : suffix_at + 2].any()
    found = compare(subject, pack, {0: Bend()}, Writes((0,), suffix_at, 2, after=False))
    assert max(found.values()) < 1e-4, found


@pytest.mark.parametrize("break_it", ["keys of other rows", "stream of other rows", "one edit forgotten"])
def test_the_comparison_notices_a_wrong_tail(subject: Subject, break_it: str) -> None:
    pack, writes = tiny.pack(subject), Writes((1,), 9, 3, False)
    edits = {1: Bend(), 3: Bend(1)}
    tail = TailPass(subject, pack, edits, writes)
    if break_it == "keys of other rows":
        tail.recorded.prefix = {i: (k.roll(1, 0), v.roll(1, 0)) for i, (k, v) in tail.recorded.prefix.items()}
    elif break_it == "stream of other rows":
        tail.recorded.hidden = tail.recorded.hidden.roll(1, 0)
    else:
        tail.edits = {1: edits[1]}
    found = gaps(FullPass(subject, pack, edits, writes), tail, perturbation(subject, writes))
    assert min(found.values()) > 1e-3, found


def test_a_pass_leaves_nothing_behind_for_the_next(subject: Subject) -> None:
    pack, writes = tiny.pack(subject), Writes((1,), 9, 3, False)
    tail = TailPass(subject, pack, {1: Bend()}, writes)
    delta = perturbation(subject, writes)
    first = tail(delta, ROWS).read
    tail(3 * delta[:2], torch.tensor([1, 1]))
    assert torch.equal(tail(delta, ROWS).read, first)


def test_no_perturbation_is_a_perturbation_of_zero(subject: Subject) -> None:
    pack, writes = tiny.pack(subject), Writes((1, 2), 9, 3, False)
    zero = torch.zeros_like(perturbation(subject, writes))
    for kind in (FullPass, TailPass):
        run = kind(subject, pack, {2: Bend()}, writes)
        assert torch.equal(run(None, ROWS).read, run(zero, ROWS).read)


def test_before_and_after_an_edit_are_two_places() -> None:
    """Negative control of the parameter ``after``: a bending edit does see what is written before it."""
    subject = tiny.bare("llama")
    pack, edits = tiny.pack(subject), {2: Bend()}
    both = [Writes((2,), 11, 1, after) for after in (True, False)]
    delta = perturbation(subject, both[0])
    for kind in (FullPass, TailPass):
        after, before = (kind(subject, pack, edits, w)(delta, ROWS).read for w in both)
        assert gap(after, before) > 1e-2


def test_in_bfloat16_they_agree_to_its_rounding() -> None:
    subject = tiny.bare("llama")
    subject.model.bfloat16()
    pack, writes = tiny.pack(subject), Writes((2,), 9, 3, False)
    delta = perturbation(subject, writes).float()
    found = gaps(FullPass(subject, pack, {}, writes), TailPass(subject, pack, {}, writes), delta)
    assert max(found.values()) < 0.1, found


@pytest.mark.parametrize("biased", [False, True])
def test_reading_some_choices_equals_gathering_all_logits(subject: Subject, biased: bool) -> None:
    model = subject.model
    old = model.get_output_embeddings()
    head = nn.Linear(tiny.D_MODEL, tiny.VOCABULARY, bias=biased)
    head.weight.data.copy_(3 * old.weight)  # far enough from 0 for a softcap to bend
    model.set_output_embeddings(head.requires_grad_(False))
    try:
        given: list[Tensor] = []
        with head.register_forward_pre_hook(lambda _, args: given.append(args[0])):
            pack = tiny.pack(subject)
            logits = model(input_ids=pack.ids).logits[:, -1].gather(1, choices(pack))
        read = subject.unembed(given[0][:, -1], choices(pack))
        assert gap(logits, read) < 1e-5
        bare = torch.einsum("rd,rcd->rc", given[0][:, -1], head.weight[choices(pack)])
        bent = biased or model.config.model_type == "gemma2"
        assert (gap(logits, bare) > 1e-2) == bent  # the bias and the softcap matter
    finally:
        model.set_output_embeddings(old)


def test_the_final_norm_is_what_the_unembedding_reads_from(subject: Subject) -> None:
    pack = tiny.pack(subject)
    given: dict[str, Tensor] = {}
    norm, head = final_norm(subject), subject.model.get_output_embeddings()
    with (
        norm.register_forward_hook(lambda *a: given.update(norm=a[2])),
        head.register_forward_pre_hook(lambda *a: given.update(head=a[1][0])),
    ):
        subject.model(input_ids=pack.ids)
    assert torch.equal(given["norm"], given["head"])
