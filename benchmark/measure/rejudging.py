"""Examples that are judged under one edit after another: what lies below the edits is run once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from benchmark.contracts.defense import Edit
from benchmark.contracts.example import Example
from benchmark.contracts.task import Task
from benchmark.measure.judging import Judged, judge, judged
from benchmark.measure.self_check import agree
from benchmark.model.edits import by_boundary
from benchmark.model.pack import Pack, make_packs
from benchmark.model.passes import Writes
from benchmark.model.streams import ROWS, whole
from benchmark.model.subject import Subject
from benchmark.model.tail import TailPass
from benchmark.sites import Site

HELD = 2**28
"""Bytes of streams that are kept at most; where it would be more, every judgement is a full pass."""


class Rejudged:
    """``judge`` of some examples for calibration: equal to it, and from the second time on as fast as the layers above
    the lowest edit are.

    That they are equal is tried on one pack; where they are not, or where the verdict is about texts that the model
    writes, it is ``judge`` itself.
    """

    def __init__(
        self,
        subject: Subject,
        task: Task,
        examples: Sequence[Example],
        floor: float | None = None,
        *,
        often: bool = False,
    ) -> None:
        """``often``: it is known to be asked more than once, so that what lies below is kept from the first time on."""
        self.subject, self.task, self.examples, self.floor, self.often = subject, task, examples, floor, often
        self._lowest: int | None = None
        self._tails: list[tuple[Pack, TailPass]] | None = None
        """Passes above the lowest edit; None: not made yet; none of them: they do not serve."""

    @torch.no_grad()
    def __call__(self, edits: Mapping[Site, Edit]) -> Judged:
        """Of the live model under ``edits``."""
        placed = by_boundary(self.subject, edits)
        if self.task.readout.writes_text or not placed or not self.examples:
            return self._whole(edits)
        if min(placed) != self._lowest:
            self._lowest, self._tails = min(placed), None
            if not self.often:
                return self._whole(edits)  # once is not often
        if self._tails is None:
            self._tails = self._made(min(placed), placed)
        if not self._tails:
            return self._whole(edits)
        for _, tail in self._tails:
            tail.edits = placed
        return judged(self.task, self.examples, self._tails, floor=self.floor)

    def _whole(self, edits: Mapping[Site, Edit]) -> Judged:
        return judge(self.subject, self.task, self.examples, edits, floor=self.floor)

    def _made(self, lowest: int, placed: Mapping[int, Edit]) -> list[tuple[Pack, TailPass]]:
        """The passes; none, where they would hold too much or do not give what the full ones give."""
        packs = make_packs(self.subject, self.task, self.examples, ROWS)
        if sum(pack.ids.numel() for pack in packs) * self.subject.d_model * 4 > HELD:
            return []
        if any(pack.reader.boundary is not None and pack.reader.boundary < lowest for pack in packs):
            return []  # what is read lies below all edits
        try:
            tails = [(pack, self._tail(pack, lowest)) for pack in packs]
            pack, tail = tails[0]
            tail.edits = placed
            read = (run(None, pack.everyone).read for run in (whole(self.subject, pack, placed), tail))
            same = agree(self.subject.dtype, *map(self.task.readout.flat, read))
        except (RuntimeError, TypeError, KeyError, IndexError, AttributeError):
            return []  # a family whose layers cannot be replayed
        return tails if same else []

    def _tail(self, pack: Pack, lowest: int) -> TailPass:
        tail = TailPass(self.subject, pack, {}, Writes((lowest,), 0, pack.length, after=False))
        tail.weigh = self.task.readout.log_mass
        return tail
