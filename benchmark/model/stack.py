"""The layers of a tail, on top of what is recorded below and before it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from benchmark.model.cuda_graphs import Graphs, served
from benchmark.model.recorded import Given, Recorded


class Stack:
    """Layers over some lines of what is recorded; on a GPU as graphs, where they are asked for often enough."""

    def __init__(self, layers: Sequence[nn.Module], recorded: Recorded) -> None:
        self.layers, self.recorded = layers, recorded
        self._given: Given | None = None
        self._graphs = Graphs(layers, recorded) if served(recorded.hidden.device) else None

    def __call__(self, h: Tensor, lines: Tensor, span: range) -> Tensor:
        """The stream (lines, columns, d_model) behind the layers of ``span``; ``lines`` (lines,): which ones."""
        launched = self._graphs(h, lines, span) if self._graphs else None
        if launched is not None:
            return launched
        if self._given is None or not self._given.of(lines):
            self._given = Given(self.recorded, lines)
        return self._given.through(self.layers, h, span)
