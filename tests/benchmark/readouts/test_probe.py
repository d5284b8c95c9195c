"""Probes: which positions they pool, on which passes, and what cannot reach them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Edit, Where
from benchmark.contracts.example import Example, Split
from benchmark.contracts.readout import Criteria, Verdict
from benchmark.measure.group import Group
from benchmark.measure.self_check import tail_is_exact
from benchmark.model.edits import is_special
from benchmark.model.pack import make_packs
from benchmark.model.passes import FullPass, Writes
from benchmark.model.tail import TailPass
from benchmark.readouts.probe import Probe, ProbeReader, _pooled, probe_weights
from benchmark.registry import threat
from tests import tiny
from tests.groups import AT, far
from tests.tiny import D_MODEL, ToyTask


class Probed(ToyTask):
    """Reads a probe one layer above what is clamped; the class of an example is drawn."""

    readout = Probe("blocks.2.hook_resid_post", ("a", "b"))

    def _example(self, split: Split, number: int, generator: torch.Generator) -> Example:
        made = super()._example(split, number, generator)
        return replace(made, answer=int(torch.randint(2, (1,), generator=generator)), wrong=(0,))

    def verdict(self, read: Tensor, criteria: Criteria) -> Verdict:
        margin = read.gather(1, criteria.target[:, None])[:, 0]
        return Verdict(["yes" if m > 0 else "no" for m in margin.tolist()], margin)


def test_what_cannot_reach_a_probe_is_not_run_and_says_why(group: Group) -> None:
    probed = replace(group, task=Probed())
    at, above = replace(probed, sites=(AT + 1,)), replace(probed, sites=(AT + 2,))
    for name in ("soft_suffix", "token_suffix"):
        assert threat(name).applies(group.task, group) is None
        assert "a suffix has no place" in threat(name).applies(probed.task, probed)
    for name in ("before_edit", "after_edit"):
        stream = threat(name)
        assert stream.applies(probed.task, probed) is None
        assert stream.applies(at.task, at) is None, "what is written where it reads is read"
        assert "below every defended site" in stream.applies(above.task, above)
        assert tail_is_exact(above, [stream]), "where nothing is written nothing can be wrong"


def test_bos_is_not_pooled_when_a_probe_is_read() -> None:
    subject, task = tiny.subject(), Probed()
    for pack in make_packs(subject, task, task.examples("test"), 99):
        rows, stream = torch.arange(len(pack)), torch.randn(len(pack), pack.length, D_MODEL)
        assert isinstance(pack.reader, ProbeReader)
        read = pack.reader(None, stream, rows)
        torch.testing.assert_close(read, stream[:, 1:].mean(1) @ pack.reader.weight + pack.reader.bias)
        for position in range(pack.length):
            moved = stream.clone()
            moved[:, position] += 100
            same = torch.allclose(pack.reader(None, moved, rows), read)
            assert same is (position == 0)


def test_part_of_a_probe_reader_pools_its_own_rows() -> None:
    drawn = torch.Generator().manual_seed(0)
    pooled, stream = torch.rand(5, 6, generator=drawn) < 0.5, torch.randn(5, 6, D_MODEL, generator=drawn)
    whole = ProbeReader(3, torch.randn(D_MODEL, 2, generator=drawn), torch.zeros(2), pooled)
    rows, index = torch.arange(5), torch.tensor([4, 1])
    read = whole(None, stream, rows)
    torch.testing.assert_close(whole.part(index)(None, stream[index], torch.arange(2)), read[index])
    assert not torch.allclose(whole(None, stream[index], torch.arange(2)), read[index])


@torch.no_grad()
def test_bos_is_not_pooled_when_a_probe_is_fitted() -> None:
    subject, task = tiny.subject(), Probed()
    examples = list(task.examples("fit"))
    pooled = _pooled(subject, task, examples, 3)
    for example, mean in zip(examples, pooled, strict=True):
        ids = torch.tensor([task.readout.encode(subject.tokenizer, example).tokens])
        stream = subject.model(input_ids=ids, output_hidden_states=True).hidden_states[3][0]
        torch.testing.assert_close(mean, stream[1:].mean(0), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(mean, stream.mean(0), rtol=1e-2, atol=1e-2)
        assert is_special(subject, ids)[0].tolist() == [True] + [False] * (len(stream) - 1)


class Smear:
    """Mixes positions: not position-wise, so that the tail pass has to take them all."""

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return 0.5 * (h + h.mean(1, keepdim=True))


class Fade:
    position_wise = True

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return torch.where(where.special[..., None], h, h * torch.linspace(-1, 1, h.shape[-1]))


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "llama"])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("edit", [Fade, Smear])
@pytest.mark.parametrize("written", [2, 3])
def test_a_probe_reads_and_slopes_alike_on_both_passes(
    family: str, after: bool, edit: Callable[[], Edit], written: int
) -> None:
    """Above the perturbed site, and at it."""
    subject, task = tiny.subject(family), Probed()
    pack = max(make_packs(subject, task, task.examples("test"), 99), key=len)
    writes = Writes((written,), pack.readout - 1, 2, after)
    rows = torch.arange(len(pack)).flip(0)
    delta = far(2 * len(pack), 4.0).view(len(pack), 1, 2, D_MODEL)
    found = []
    for kind in (FullPass, TailPass):
        run = kind(subject, pack, {written: edit()}, writes)
        at = delta.clone().requires_grad_()
        read = run(at, rows).read
        (slope,) = torch.autograd.grad(read[:, 0].sum() - 2 * read[:, 1].sum(), at)
        found.append((read.detach(), slope))
        with torch.no_grad():
            assert not torch.allclose(run(torch.zeros_like(delta), rows).read, read, rtol=1e-2, atol=1e-2)
    (full, wide), (tail, narrow) = found
    torch.testing.assert_close(tail, full, rtol=1e-3, atol=1e-3 * float(full.abs().max()))
    torch.testing.assert_close(narrow, wide, rtol=1e-3, atol=1e-3 * float(wide.abs().max()))
    assert (wide.flatten(1).norm(dim=1) > 0).all()


class Turned(Probed):
    """The same name, ids and prompts, with the classes the other way round."""

    def _example(self, split: Split, number: int, generator: torch.Generator) -> Example:
        made = super()._example(split, number, generator)
        return replace(made, answer=1 - made.answer)


def test_two_tasks_of_one_name_have_their_own_probes() -> None:
    """In one process on one model, and the first one's is still known."""
    subject, (first, second) = tiny.subject(), (Probed(), Turned())
    assert isinstance(first.readout, Probe) and first.readout == second.readout and first.name == second.name
    found = [probe_weights(subject, task, first.readout) for task in (first, second, first)]
    assert found[0] is found[2], "one fit for a (model, data)"
    torch.testing.assert_close(found[1].weight, found[0].weight.flip(1))
    assert not torch.allclose(found[1].weight, found[0].weight)
