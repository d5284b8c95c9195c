"""Stretches of layers as CUDA graphs: all kernels of a pass are launched at once, and so are those of its gradient.

A step over few lines launches thousands of kernels that are each done before the next one is launched. In a graph they
are the same kernels on the same numbers. What a defense or an attacker does stands between two stretches and is run as
it is, and so is a stretch that cannot be made into a graph, or whose graph does not give what the layers themselves
give.

A graph reads and writes fixed places in memory. What comes out of it is copied, and before a gradient is taken the pass
is launched again wherever something else went through these places since.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from weakref import ReferenceType, WeakSet, ref

import torch
from torch import Tensor, nn

from benchmark.model.precision import agree
from benchmark.model.recorded import Given, Recorded

MOST = 2048
"""Positions (lines times columns) at most: the larger a pass, the less of its time is launching, and what a graph holds
of memory grows with it."""
WORTH = 3
"""A stretch is made into a graph when it is asked for so many times: making one costs as much as a few steps."""
_REFUSED: WeakSet[nn.Module] = WeakSet()
"""Last layers of models that are run without."""

Function = Callable[[Tensor], Tensor]


def served(device: torch.device) -> bool:
    """Whether there are graphs on it."""
    return device.type == "cuda"


class Graphs:
    """The graphs of one stack of layers: of every stretch that is asked for, and for every number of lines.

    Only one stack has any at a time, since what they take no other pass can have.
    """

    _holder: ClassVar[ReferenceType[Graphs] | None] = None

    def __init__(self, layers: Sequence[nn.Module], recorded: Recorded) -> None:
        self._layers, self._recorded = layers, recorded
        self._forget()

    def _forget(self) -> None:
        self._given: dict[int, Given] = {}
        self._graphs: dict[tuple[int, range], Graph] = {}
        self._asked: Counter[tuple[int, range]] = Counter()
        self._memory: defaultdict[range, Memory] = defaultdict(Memory)

    def __call__(self, h: Tensor, lines: Tensor, span: range) -> Tensor | None:
        """The stream behind the layers of ``span``, differentiable once; None: the layers have to be run."""
        size = rounded(len(lines))
        key = size, span
        if not span or size * h.shape[1] > MOST or self._layers[-1] in _REFUSED:
            return None
        self._asked[key] += 1
        if self._asked[key] < WORTH:
            return None
        given, lines = self._given_of(lines, size)
        graph = self._graphs.get(key) or self._make(key, filled(h, size), given)
        return None if graph is None else _Launched.apply(h, graph, given, lines)

    def _given_of(self, lines: Tensor, size: int) -> tuple[Given, Tensor]:
        """What so many lines are given, at places that stay, and the lines."""
        lines = filled(lines, size)
        if size not in self._given:
            self._given[size] = Given(self._recorded, lines)
        self._given[size].turn_to(lines)
        return self._given[size], lines

    def _make(self, key: tuple[int, range], h: Tensor, given: Given) -> Graph | None:
        span = key[1]
        holder = Graphs._holder and Graphs._holder()
        if holder is not None and holder is not self:
            holder._forget()
        Graphs._holder = ref(self)

        def layers(at: Tensor) -> Tensor:
            return given.through(self._layers, at, span)

        try:
            graph = Graph(layers, h, self._memory[span])
            if _gives(graph, layers, h):
                self._graphs[key] = graph
                return graph
        except RuntimeError:  # no memory is left, or something on the way waits for the device
            self._forget()
        _REFUSED.add(self._layers[-1])
        return None


def rounded(count: int) -> int:
    """The next number of the form 2^k or 3 * 2^k: rows that end early must not each ask for a graph of its own."""
    power = 1 << max(count - 1, 0).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 and power >= 4 else power


def filled(x: Tensor, size: int) -> Tensor:
    """``x`` (lines, ...) with its first line again and again behind it, to so many."""
    return x if len(x) == size else torch.cat([x, x[:1].expand(size - len(x), *x.shape[1:])])


class Memory:
    """What the graphs of a stretch share, each of which leaves there what its own gradient needs."""

    def __init__(self) -> None:
        self.pool: Any = None
        self.turn = 0
        """Changes with whatever is written there."""


class Graph:
    """A function of a stream, and its gradient."""

    def __init__(self, function: Function, h: Tensor, memory: Memory) -> None:
        """``h``: of the shape that it takes.

        Raises:
            RuntimeError: the device cannot record it.
        """
        self.memory = memory
        memory.turn += 1
        self._at = h.detach().clone().requires_grad_()
        with torch.cuda.device(h.device), torch.enable_grad():
            _try_aside(function, h)
            self._ahead, self._back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            if memory.pool is None:
                memory.pool = torch.cuda.graph_pool_handle()
            with torch.cuda.graph(self._ahead, pool=memory.pool):
                out = function(self._at)
            self._gradient = torch.zeros_like(out)
            with torch.cuda.graph(self._back, pool=memory.pool):
                (self._slope,) = torch.autograd.grad(out, self._at, self._gradient)
        self._out = out.detach()

    def ahead(self, h: Tensor) -> int:
        """Take ``h`` (lines, columns, d_model), of which there may be fewer, through; what turn this was."""
        with torch.no_grad():
            self._at[: len(h)].copy_(h)
        self._ahead.replay()
        self.memory.turn += 1
        return self.memory.turn

    def out(self, lines: int) -> Tensor:
        """What came out of it."""
        return self._out[:lines].clone()

    def back(self, gradient: Tensor) -> Tensor:
        """The gradient of what was taken through last; once, since it overwrites what it needs."""
        self._gradient[: len(gradient)].copy_(gradient)
        self._back.replay()
        self.memory.turn += 1
        return self._slope[: len(gradient)].clone()


def _try_aside(function: Function, h: Tensor) -> None:
    """Once on another stream, as torch asks for: whatever is set up at a first call must not be recorded."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        at = h.detach().clone().requires_grad_()
        out = function(at)
        torch.autograd.grad(out, at, torch.zeros_like(out))
    torch.cuda.current_stream().wait_stream(aside)


def _gives(graph: Graph, function: Function, h: Tensor) -> bool:
    """Whether the graph gives what the function gives, and its gradient."""
    at = h.detach().clone().requires_grad_()
    with torch.enable_grad():
        out = function(at)
    (slope,) = torch.autograd.grad(out, at, out.detach())
    graph.ahead(h)
    return agree(h.dtype, out.detach(), graph.out(len(h))) and agree(h.dtype, slope, graph.back(out.detach()))


class _Launched(torch.autograd.Function):
    """A graph of what some lines are given, as a function of the stream."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, graph: Graph, given: Given, lines: Tensor) -> Tensor:
        ctx.graph, ctx.given, ctx.lines = graph, given, lines
        ctx.save_for_backward(h)
        ctx.state = graph.ahead(h), given.moves
        return graph.out(len(h))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (h,) = ctx.saved_tensors
        if (ctx.graph.memory.turn, ctx.given.moves) != ctx.state:
            ctx.given.turn_to(ctx.lines)
            ctx.graph.ahead(h)
        return ctx.graph.back(gradient), None, None, None
