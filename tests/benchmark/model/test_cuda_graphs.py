"""Stretches of layers launched as graphs give what the layers give. Without a GPU, graphs are stood in for by what
shares their traps: fixed places, and a memory that each of them overwrites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.model import cuda_graphs, stack
from benchmark.model.cuda_graphs import WORTH, Graph, Memory, rounded
from benchmark.model.passes import Writes
from benchmark.model.subject import Subject
from benchmark.model.tail import TailBatch, TailPass
from benchmark.search.jacobian import weighted_rows
from tests import tiny
from tests.benchmark.model.test_passes import Bend, gap
from tests.benchmark.model.test_tail_batch import OBSERVED, largest_gap, slopes, tails_of

EDITS: dict[int, Any] = {1: Bend(), 3: Bend(1)}
FAR = 1e-3


class StandIn(Graph):
    """On a processor: it computes what a graph would launch. What its gradient needs lies in the shared memory, where
    only the last one's is, and only until a gradient was taken."""

    made = 0

    def __init__(self, function: Callable[[Tensor], Tensor], h: Tensor, memory: Memory) -> None:
        type(self).made += 1
        memory.turn += 1
        self.memory, self.function = memory, function
        self._at = h.detach().clone().requires_grad_()
        self._out = function(h).detach().clone()
        self._gradient, self._slope = torch.zeros_like(self._out), torch.zeros_like(h)
        self._ahead = self._back = self  # type: ignore[assignment]
        self._going_back = False

    def replay(self) -> None:
        if self._going_back:
            kept: Any = self.memory.pool
            self.memory.pool = None
            slope = torch.nan if kept is None else torch.autograd.grad(kept[1], kept[0], self._gradient)[0]
            self._slope.copy_(torch.as_tensor(slope).expand_as(self._slope))
            return
        with torch.enable_grad():
            self.memory.pool = self._at, self.function(self._at)  # type: ignore[assignment]
        self._out.copy_(self.memory.pool[1].detach())

    def back(self, gradient: Tensor) -> Tensor:
        self._going_back = True
        try:
            return super().back(gradient)
        finally:
            self._going_back = False


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stack, "served", lambda device: True)
    monkeypatch.setattr(cuda_graphs, "Graph", StandIn)
    monkeypatch.setattr(StandIn, "made", 0)
    yield
    cuda_graphs._REFUSED.clear()


@pytest.fixture(scope="module", params=list(tiny.FAMILIES))
def subject(request: Any) -> Subject:
    return tiny.bare(request.param)


def tail_of(subject: Subject, edits: dict[int, Any] = EDITS) -> TailPass:
    pack = tiny.pack(subject)
    return TailPass(subject, pack, edits, Writes((1,), pack.readout - 1, 2, after=False))


def plain(tail: TailPass) -> TailPass:
    """The same without graphs."""
    made = TailPass(tail.subject, tail.pack, tail.edits, tail.writes)
    made._stack._graphs = None
    return made


def at(tail: TailPass, rows: int, seed: int) -> Tensor:
    shape = (rows, len(tail.writes.boundaries), tail.writes.width, tail.subject.d_model)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def everything(tail: TailPass, delta: Tensor, rows: list[int]) -> list[Tensor]:
    """Values and gradients."""
    seen = tail(delta, torch.tensor(rows, device=delta.device), OBSERVED)
    return [seen.read, *seen.stream.values(), *slopes([seen], [delta])]


def apart(some: list[Tensor], others: list[Tensor]) -> float:
    return max(gap(a, b) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("edits", [{}, {1: Bend()}, EDITS], ids=["no edit", "one below", "between"])
def test_values_and_gradients_are_those_of_the_layers(graphs: None, subject: Subject, edits: dict[int, Any]) -> None:
    tail = tail_of(subject, edits)
    other = plain(tail)
    asked = [[0, 1, 2], [0, 1, 2], [0, 1, 2], [2, 0, 1], [1, 1, 2, 0, 2], [0, 2], [2, 1, 1, 0, 0, 2], [1], [0, 0, 2]]
    for seed, rows in enumerate(asked * 2):
        delta = at(tail, len(rows), seed)
        assert apart(everything(tail, delta, rows), everything(other, delta, rows)) < 1e-5, rows
    assert StandIn.made


def test_several_packs_as_one_too(graphs: None, subject: Subject) -> None:
    tails = tails_of(subject, {2: Bend()}, 1)
    batch = TailBatch(tails)
    for _ in range(WORTH + 2):
        assert largest_gap(tails, batch) < 1e-4
    assert StandIn.made


def test_layers_are_run_until_a_graph_is_worth_it(graphs: None) -> None:
    tail = tail_of(tiny.bare("llama"))
    for k in range(WORTH + 2):
        everything(tail, at(tail, 3, k), [0, 1, 2])
        stretches = 3  # from what is written to what is observed, to the edit, and above it
        assert StandIn.made == (stretches if k + 1 >= WORTH else 0)


def test_one_stack_has_graphs_at_a_time(graphs: None) -> None:
    subject = tiny.bare("llama")
    first, second = tail_of(subject), tail_of(subject)
    begun(first)
    late = at(first, 3, 9)
    value = first(late, torch.tensor([0, 1, 2]), OBSERVED).read.sum()
    begun(second)
    assert [bool(run._stack._graphs and run._stack._graphs._graphs) for run in (first, second)] == [False, True]
    other = plain(first)
    expected = torch.autograd.grad(other(late, torch.tensor([0, 1, 2])).read.sum(), late)[0]
    assert gap(torch.autograd.grad(value, late)[0], expected) < 1e-5, "a pass that was under way"
    for _ in range(2):
        begun(first)
        assert apart(everything(first, late, [0, 1, 2]), everything(other, late, [0, 1, 2])) < 1e-5


def test_large_passes_have_none(graphs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "MOST", 3)
    tail = tail_of(tiny.bare("llama"))
    for k in range(WORTH + 1):
        everything(tail, at(tail, 3, k), [0, 1, 2])
    assert not StandIn.made


def begun(tail: TailPass) -> None:
    """Every graph is made."""
    for k in range(WORTH):
        everything(tail, at(tail, 3, k), [0, 1, 2])


def both_ways(tail: TailPass) -> list[Tensor]:
    """Two passes, and then their gradients, the first one's twice."""
    first, second = at(tail, 3, 7), at(tail, 3, 8)
    one = tail(first, torch.tensor([0, 1, 2]), OBSERVED).read.sum()
    other = tail(second, torch.tensor([0, 1, 2]), OBSERVED).read.square().sum()
    back = [torch.autograd.grad(one, first, retain_graph=True)[0] for _ in range(2)]
    return [*back, *torch.autograd.grad(other, second), *torch.autograd.grad(one, first)]


def test_a_gradient_is_that_of_its_own_pass(graphs: None, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = tail_of(subject)
    begun(tail)
    expected = both_ways(plain(tail))
    assert apart(both_ways(tail), expected) < 1e-5
    # negative control: memory that others went through is not noticed
    monkeypatch.setattr(
        Memory, "__setattr__", lambda self, name, value: name != "turn" and vars(self).update({name: value})
    )
    assert not apart(both_ways(tail), expected) < FAR


def test_a_gradient_is_that_of_its_own_lines(graphs: None, subject: Subject) -> None:
    """Also where other lines went through another stretch since."""
    tail = tail_of(subject, {})
    begun(tail)
    delta = at(tail, 3, 7)
    for k in range(WORTH):
        tail(at(tail, 3, k), torch.tensor([0, 1, 2]))  # from what is written to the end, in one
    expected = torch.autograd.grad(plain(tail)(delta, torch.tensor([0, 1, 2]), OBSERVED).read.sum(), delta)[0]
    value = tail(delta, torch.tensor([0, 1, 2]), OBSERVED).read.sum()
    tail(delta, torch.tensor([2, 2, 1]))
    assert gap(torch.autograd.grad(value, delta)[0], expected) < 1e-5


def test_a_gradient_can_be_taken_again(graphs: None, subject: Subject) -> None:
    tail = tail_of(subject, {})
    begun(tail)
    delta, rows = at(tail, 3, 7), torch.tensor([0, 1, 2])
    value = tail(delta, rows, OBSERVED).read.sum()
    first, second = (torch.autograd.grad(value, delta, retain_graph=True)[0] for _ in range(2))
    assert gap(first, second) < 1e-6 and first.abs().max() > 0


def test_a_stretch_is_launched_once_for_a_gradient(graphs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches below and above an edit do not overwrite each other."""
    tail = tail_of(tiny.bare("llama"))
    begun(tail)
    ahead, back = list[Graph](), list[Graph]()
    for name, told in (("ahead", ahead), ("back", back)):
        plainly = getattr(StandIn, name)
        monkeypatch.setattr(StandIn, name, lambda self, x, told=told, run=plainly: told.append(self) or run(self, x))
    everything(tail, at(tail, 3, 7), [0, 1, 2])
    assert len(ahead) == len(set(ahead)) == 3 and back == ahead[::-1]


def test_gradients_in_one_batch_are_those_one_by_one(graphs: None) -> None:
    tail = tail_of(tiny.bare("llama"))
    begun(tail)
    found = []
    for run in (tail, plain(tail)):
        delta = at(tail, 3, 5)
        stream = run(delta, torch.tensor([0, 1, 2]), OBSERVED).stream[tiny.LAYERS][:, -1]
        found.append(weighted_rows(stream, delta, torch.eye(tiny.D_MODEL)[:5]))
    assert gap(*found) < 1e-5 and found[0].abs().max() > 0


def test_what_cannot_be_a_graph_is_run_and_not_tried_again(graphs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def refuse(*_: Any) -> None:
        tries.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graphs, "Graph", refuse)
    subject = tiny.bare("llama")
    for tail in (tail_of(subject, {}), tail_of(subject, {})):
        for k in range(WORTH + 2):
            delta = at(tail, 3, k)
            assert apart(everything(tail, delta, [0, 1, 2]), everything(plain(tail), delta, [0, 1, 2])) < 1e-6
    assert len(tries) == 1


def test_a_graph_that_gives_something_else_is_not_used(graphs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(StandIn):
        def out(self, lines: int) -> Tensor:
            return super().out(lines) * 1.01

    class Steep(StandIn):
        def back(self, gradient: Tensor) -> Tensor:
            return super().back(gradient) * 1.01

    for kind in (Wrong, Steep):
        for trusting in (False, True):  # negative control: nobody looks
            cuda_graphs._REFUSED.clear()
            with monkeypatch.context() as patched:
                patched.setattr(cuda_graphs, "Graph", kind)
                if trusting:
                    patched.setattr(cuda_graphs, "agree", lambda *_: True)
                tail = tail_of(tiny.bare("llama"))
                begun(tail)
                delta = at(tail, 3, 5)
                found = apart(everything(tail, delta, [0, 1, 2]), everything(plain(tail), delta, [0, 1, 2]))
            assert found > FAR if trusting else found < 1e-6


def test_sizes_are_few_and_never_too_small() -> None:
    sizes = [rounded(n) for n in range(1, 3000)]
    assert all(n <= size <= n * 3 / 2 + 1 for n, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 25 and all(rounded(size) == size for size in sizes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("family", list(tiny.FAMILIES))
def test_on_a_gpu(family: str) -> None:
    """The graphs themselves."""
    subject = tiny.bare(family)
    subject.model.cuda()
    try:
        tail = tail_of(subject)
        other = plain(tail)
        asked = [[0, 1, 2]] * (WORTH + 1) + [[2, 0, 1], [1, 1, 2, 0, 2], [0, 2], [0, 0, 2]] * (WORTH + 1)
        for seed, rows in enumerate(asked):
            delta = at(tail, len(rows), seed).detach().cuda().requires_grad_()
            found, expected = (everything(run, delta, rows) for run in (tail, other))
            assert apart(found, expected) < 1e-5, rows
        assert tail._stack._graphs is not None and tail._stack._graphs._graphs, "no graph was made"
    finally:
        subject.model.cpu()
