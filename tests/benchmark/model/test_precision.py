"""A model in half precision gives what the same weights give in single precision, to its own rounding and no more."""

from __future__ import annotations

from copy import copy, deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import FittedDefense, Where
from benchmark.errors import UsageError
from benchmark.measure.self_check import tail_is_exact
from benchmark.model.edits import Passage
from benchmark.model.generation import generate
from benchmark.model.passes import FullPass, Writes
from benchmark.model.precision import logits, wide_logits
from benchmark.model.streams import residual_norms
from benchmark.model.subject import Subject
from benchmark.model.tail import TailPass
from benchmark.registry import threat
from benchmark.sites import Site
from tests import tiny
from tests.groups import toy_group
from tests.tiny import D_MODEL, ToyTask

FAMILIES = ("llama", "gpt2", "gemma2")
ROUNDING = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
"""Half of the last bit, relative."""
HALF = pytest.mark.parametrize("dtype", ROUNDING, ids=str)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: Any) -> str:
    return request.param


def pair(family: str, dtype: torch.dtype) -> tuple[Subject, Subject]:
    """A model in half precision, and in single precision with the same weights."""
    half = tiny.subject(family)
    half.model.to(dtype)
    single = copy(half)
    object.__setattr__(single, "model", deepcopy(half.model).float())
    for name in ("layers", "parts"):
        vars(single).pop(name, None)
    return half, single


class Weaken:
    """Halves what the stream has along a few random directions, all in the dtype of what it is given."""

    position_wise = True
    seen: set[torch.dtype]

    def __init__(self) -> None:
        self.seen = set()
        self.basis = torch.linalg.qr(torch.randn(D_MODEL, 4, generator=torch.Generator().manual_seed(3)))[0]

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        self.seen.add(h.dtype)
        basis = self.basis.to(h.dtype)
        return h - 0.5 * (h @ basis) @ basis.T * ~where.special[..., None]


@HALF
def test_logits_read_of_either_pass_are_those_of_single_precision(family: str, dtype: torch.dtype) -> None:
    """To a few roundings of the stream; of the logits themselves none is left."""
    half, single = pair(family, dtype)
    pack, writes, edits = tiny.pack(half), Writes((2,), 11, 1, after=False), {2: Weaken()}
    expected = FullPass(single, pack, edits, writes)(None, pack.everyone).read
    for kind in (FullPass, TailPass):
        read = kind(half, pack, edits, writes)(None, pack.everyone).read
        assert read.dtype == torch.float32
        assert float((read - expected).norm() / expected.norm()) < 12 * ROUNDING[dtype]
        assert not torch.equal(read, read.to(dtype).float()), "rounded"  # the negative control of the sentence above
    assert edits[2].seen == {torch.float32}


def test_generation_decides_between_tokens_that_half_precision_cannot_tell_apart() -> None:
    """Two tokens whose logits differ by less than bfloat16 knows there: the smaller id would always win a tie."""
    subject = tiny.subject("llama")
    model = subject.model.bfloat16()
    prompt = torch.tensor([[1, 5, 9]])
    first = generate(subject, prompt, Passage({}), 1)[0].tokens[0]
    assert first > 3
    head = model.get_output_embeddings().weight.data
    head[3] = head[first]  # a tie, and now a little behind in one entry, by its last bit
    hidden: list[Tensor] = []
    with model.get_output_embeddings().register_forward_pre_hook(lambda _, args: hidden.append(args[0][0, -1])):
        plain = model(input_ids=prompt).logits[0, -1]
    entry = int(hidden[0].abs().argmin())
    head[3, entry] *= 1 - 2**-7 if hidden[0][entry] * head[first, entry] > 0 else 1 + 2**-7
    plain = model(input_ids=prompt).logits[0, -1]
    assert plain[3] == plain[first] and int(plain.argmax()) == 3
    assert generate(subject, prompt, Passage({}), 1)[0].tokens[0] == first


@pytest.mark.parametrize("biased", [False, True])
def test_wide_logits_have_the_gradient_of_single_precision(biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.model.precision._ENTRIES", 100)  # so that it takes many parts
    head = torch.nn.Linear(16, 50, bias=biased).requires_grad_(False).bfloat16()
    wide = deepcopy(head).float()
    h = torch.randn(3, 16).bfloat16().requires_grad_()
    weight = torch.randn(3, 50)
    with wide_logits(head):
        found = head(h)
    expected = wide(h.float())
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=1e-5)
    slopes = [torch.autograd.grad((out * weight).sum(), h)[0] for out in (found, expected)]
    assert torch.equal(*slopes)
    assert head(h).dtype == torch.bfloat16, "undone behind the block"


def test_a_head_of_single_precision_is_left_alone() -> None:
    head = torch.nn.Linear(4, 4)
    with wide_logits(head):
        assert not head._forward_hooks


@HALF
def test_a_small_write_is_what_the_edit_sees_and_what_is_observed(dtype: torch.dtype) -> None:
    """Rounded beside a stream a hundred times as large, it would be another perturbation."""
    h = 100 * torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0)).to(dtype)
    delta = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(1)) * ROUNDING[dtype] * 20
    where = Where(torch.arange(1), torch.zeros(1, 1).bool(), torch.zeros(1, 1).bool())
    seen: list[Tensor] = []
    passage = Passage({0: lambda h, where: seen.append(h) or h}, {0: delta}, 0, observe=frozenset({0}))
    out = passage(0, h, where)
    assert out.dtype == dtype and torch.equal(out, (h.float() + delta).to(dtype))
    for exact in (seen[0], passage.seen[0]):
        assert float((exact - h.float() - delta).norm() / delta.norm()) < 1e-3
    rounded = out.float() - h.float()
    assert float((rounded - delta).norm() / delta.norm()) > 0.1, "the negative control: rounding does hurt"


@HALF
def test_gradients_point_where_those_of_single_precision_point(family: str, dtype: torch.dtype) -> None:
    half, single = pair(family, dtype)
    pack, writes = tiny.pack(half), Writes((1,), 10, 2, after=False)
    zero = torch.zeros(len(pack), 1, 2, D_MODEL)
    slopes = []
    for subject in (half, single):
        at = zero.clone().requires_grad_()
        read = TailPass(subject, pack, {2: Weaken()}, writes)(at, pack.everyone).read
        slopes.append(torch.autograd.grad((read[:, 0] - read[:, 1]).sum(), at)[0].flatten(1))
    assert slopes[0].dtype == torch.float32
    assert float(torch.cosine_similarity(*slopes).min()) > 1 - 20 * ROUNDING[dtype]


@HALF
def test_norms_are_those_of_single_precision(family: str, dtype: torch.dtype) -> None:
    task = ToyTask()
    half, single = (residual_norms(subject, task, task.examples("fit")) for subject in pair(family, dtype))
    assert half == pytest.approx(single, rel=4 * ROUNDING[dtype])


@HALF
def test_verdicts_are_those_of_single_precision_where_the_margin_is_clear(family: str, dtype: torch.dtype) -> None:
    groups = [toy_group(s, ToyTask(), FittedDefense({Site(2): Weaken()})) for s in pair(family, dtype)]
    for arm in ("base", "defended"):
        half, single = (getattr(group, arm) for group in groups)
        off = (half.margin - single.margin).abs()
        assert float(off.max()) < 25 * ROUNDING[dtype] * float(single.margin.abs().max())
        clear = single.margin.abs() > float(off.max())
        assert int(clear.sum()) >= 18
        assert torch.equal(half.shown[clear], single.shown[clear])


@HALF
def test_the_tail_pass_is_used_in_half_precision(family: str, dtype: torch.dtype) -> None:
    group = toy_group(pair(family, dtype)[0], ToyTask(), FittedDefense({Site(2): Weaken()}))
    assert tail_is_exact(group, [threat(name) for name in ("before_edit", "after_edit", "soft_suffix")])


def overflowing() -> Subject:
    """Its stream reaches 300,000 behind the second layer."""
    subject = tiny.subject("llama")
    layer: Any = subject.layers[1]
    layer.mlp.down_proj.weight.data *= 3e5 / 30
    return subject


def test_a_stream_that_float16_cannot_hold_is_an_error_that_says_what_can() -> None:
    subject, task = overflowing(), ToyTask()
    for dtype in (torch.float32, torch.bfloat16):
        subject.model.to(dtype)
        assert toy_group(subject, task, FittedDefense({})).base.margin.isfinite().all()
    subject.model.half()
    pack, writes = tiny.pack(subject), Writes((0,), 11, 1, after=False)
    for ask in (
        lambda: toy_group(subject, task, FittedDefense({})),
        lambda: residual_norms(subject, task, task.examples("fit")),
        lambda: generate(subject, pack.ids, Passage({}), 2),
        lambda: TailPass(subject, pack, {}, writes)(torch.zeros(3, 1, 1, D_MODEL), pack.everyone),
    ):
        with pytest.raises(UsageError, match="beyond 65,504.*--dtype bfloat16"):
            ask()


def test_a_head_of_half_precision_reads_what_is_finite() -> None:
    head = torch.nn.Linear(4, 4).half()
    assert logits(head, torch.full((1, 4), 6e4).half()).isfinite().all()
