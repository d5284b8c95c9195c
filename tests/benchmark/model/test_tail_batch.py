"""Tail passes over packs of several lengths, run as one, are the full pass over each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Where
from benchmark.model import recorded
from benchmark.model.pack import Pack
from benchmark.model.passes import FullPass, Seen, Writes
from benchmark.model.subject import Subject
from benchmark.model.tail import TailBatch, TailPass
from tests import tiny
from tests.benchmark.model.test_passes import Bend, gap

LENGTHS = (9, 12, 20)
ROWS = (torch.tensor([2, 0, 2]), torch.tensor([1]), torch.tensor([0, 1]))
"""Rows need not be in the pack's order, nor different."""
OBSERVED = frozenset({2, tiny.LAYERS})


class ByPlace(Bend):
    """An edit that acts at every third position of a text."""

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return torch.where((where.index % 3 == 0)[:, None], super().__call__(h, where), h)


EDITS: dict[str, dict[int, Any]] = {
    "no edit": {},
    "an edit": {2: Bend()},
    "edits by place": {2: ByPlace(), 4: ByPlace(1)},
}


@pytest.fixture(scope="module", params=list(tiny.FAMILIES))
def subject(request: Any) -> Subject:
    return tiny.bare(request.param)


def behind(pack: Pack, width: int, sites: tuple[int, ...] = (2,), *, after: bool = False) -> Writes:
    return Writes(sites, pack.readout + 1 - width, width, after)


def tails_of(subject: Subject, edits: dict[int, Any], width: int, *, after: bool = False) -> list[TailPass]:
    packs = [tiny.pack(subject, length=length) for length in LENGTHS]
    return [TailPass(subject, pack, edits, behind(pack, width, after=after)) for pack in packs]


def deltas_of(tails: Sequence[TailPass]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    writes, d = tails[0].writes, tails[0].subject.d_model
    shapes = [(len(rows), len(writes.boundaries), writes.width, d) for rows in ROWS]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def slopes(seen: Sequence[Seen], at: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of everything that passes give."""
    parts = [part for one in seen for part in (one.read, *one.stream.values())]
    weighted = [(p * torch.linspace(-1, 1, p.numel(), device=p.device).view(p.shape)).sum() for p in parts]
    total = torch.stack(weighted).sum()
    return list(torch.autograd.grad(total, at))


def largest_gap(tails: Sequence[TailPass], batch: TailBatch) -> float:
    """Between the batch and the full pass over each pack."""
    deltas = deltas_of(tails)
    at = [delta.clone().requires_grad_() for delta in deltas]
    full = [
        FullPass(tail.subject, tail.pack, tail.edits, tail.writes)(one, rows, OBSERVED)
        for tail, one, rows in zip(tails, at, ROWS, strict=True)
    ]
    expected = slopes(full, at)
    here = [delta.clone().requires_grad_() for delta in deltas]
    found = batch({k: (one, rows) for k, (one, rows) in enumerate(zip(here, ROWS, strict=True))}, OBSERVED)
    seen = [found[k] for k in range(len(tails))]
    gaps = [gap(a, b) for a, b in zip(expected, slopes(seen, here), strict=True)]
    for one, other in zip(full, seen, strict=True):
        gaps += [gap(one.read, other.read), *(gap(one.stream[b], other.stream[b]) for b in OBSERVED)]
    return max(gaps)


@pytest.mark.parametrize("edits", EDITS)
@pytest.mark.parametrize(("width", "after"), [(1, True), (3, False)])
def test_values_and_gradients_are_those_of_the_full_pass(subject: Subject, edits: str, width: int, after: bool) -> None:
    tails = tails_of(subject, EDITS[edits], width, after=after)
    assert len({tail.form for tail in tails}) == 1 and len({tail.offset for tail in tails}) == len(LENGTHS)
    assert largest_gap(tails, TailBatch(tails)) < 1e-4


def test_behind_a_suffix_they_are_too(subject: Subject) -> None:
    packs = [tiny.pack(subject, length=length).with_suffix(3) for length in LENGTHS]
    tails = [TailPass(subject, pack, {2: Bend()}, Writes((0,), pack.suffix_at, 3, after=False)) for pack in packs]
    assert largest_gap(tails, TailBatch(tails)) < 1e-4


def test_who_attends_to_what_is_not_there_is_noticed(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: shorter prompts that see the filling are other prompts."""
    for width in (1, 3):
        tails = tails_of(subject, EDITS["an edit"], width)
        with monkeypatch.context() as blind:
            blind.setattr(recorded, "_shifted", lambda mask, absent: _open(mask, int(absent.sum())))
            batch = TailBatch(tails)
            batch.recorded.absent = None
            assert largest_gap(tails, batch) > 1e-3


def _open(mask: Tensor, more: int) -> Tensor:
    seen = True if mask.dtype == torch.bool else 0.0
    return torch.cat([mask.new_full((*mask.shape[:3], more), seen), mask], 3)


def test_packs_without_rows_are_left_out() -> None:
    tails = tails_of(tiny.bare("llama"), EDITS["an edit"], 1)
    delta = deltas_of(tails)[0]
    (found,) = TailBatch(tails)({2: (delta, torch.tensor([0, 1, 0]))}).items()
    expected = tails[2](delta, torch.tensor([0, 1, 0]))
    assert found[0] == 2 and gap(found[1].read, expected.read) < 1e-5


def test_other_forms_are_told_apart() -> None:
    subject = tiny.bare("llama")
    pack = tiny.pack(subject)
    forms = {
        TailPass(subject, pack, edits, writes).form
        for edits, writes in (
            ({}, behind(pack, 1)),
            ({}, behind(pack, 2)),
            ({}, behind(pack, 1, after=True)),
            ({}, behind(pack, 1, (1, 2))),
            ({}, Writes((2,), 5, 1, after=False)),
        )
    }
    assert len(forms) == 5


def test_a_layer_that_cannot_be_told_what_is_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is ever attended to in silence that is not there."""
    tails = tails_of(tiny.bare("llama"), {}, 1)
    monkeypatch.setattr("benchmark.model.prefix.serves", lambda *_, **__: False)
    with pytest.raises(TypeError, match="absent columns"):
        TailBatch(tails)(dict(enumerate(zip(deltas_of(tails), ROWS, strict=True))))
