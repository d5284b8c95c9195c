"""Judging again and again gives what judging once gives, for fewer layers, or is judging once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Edit, Where
from benchmark.contracts.task import Task
from benchmark.measure import rejudging
from benchmark.measure.judging import Judged, judge
from benchmark.measure.rejudging import Rejudged
from benchmark.model.passes import Seen
from benchmark.model.subject import Subject
from benchmark.model.tail import TailPass
from benchmark.run.meter import metered
from benchmark.sites import Site
from tests import tiny

LOW, HIGH = Site.parse("blocks.0.hook_resid_post"), Site.parse(tiny.SITE)
TIMES = (0.0, 0.5, 3.0, 8.0, 0.5)


def turned(strength: float) -> Edit:
    return lambda h, where: torch.where(where.special[..., None], h, h - strength * h.flip(-1))


def looking_back(h: Tensor, where: Where) -> Tensor:
    """What it does to a position depends on the ones before."""
    return h - 0.5 * h.cumsum(1) / (1 + where.index[None, :, None])


def same(found: Judged, expected: Judged) -> bool:
    assert found.labels == expected.labels
    torch.testing.assert_close(found.margin, expected.margin, atol=1e-5, rtol=1e-5)
    for mine, its in ((found.log_mass, expected.log_mass), (found.broken, expected.broken)):
        assert (mine is None) == (its is None)
        if mine is not None:
            torch.testing.assert_close(mine, its, atol=1e-6, rtol=1e-4)
    return True


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_it_is_what_judging_once_is(family: str) -> None:
    subject, task = tiny.subject(family), tiny.ToyTask()
    examples = task.examples("fit")
    floor = math.exp(float(judge(subject, task, examples, {}).log_mass.median()))  # type: ignore[union-attr]
    again = Rejudged(subject, task, examples, floor)
    high = [{HIGH: turned(s)} for s in TIMES] + [{HIGH: looking_back}]
    found = []
    for edits in high + [{LOW: turned(s), HIGH: turned(2.0)} for s in TIMES]:
        found.append(again(edits))
        assert same(found[-1], judge(subject, task, examples, edits, floor=floor))
    assert again._tails
    assert len({tuple(f.labels) for f in found}) > 2, "they differ"


def test_what_lies_below_the_edits_is_run_once() -> None:
    subject, task = tiny.subject(), tiny.ToyTask()
    again, work = Rejudged(subject, task, task.examples("fit")), []
    for strength in TIMES:
        with metered([subject]) as meter:
            again({HIGH: turned(strength)})
        work.append(meter.work)
    assert work[2] == work[3] == work[4] == work[0] * (subject.n_layers - HIGH.boundary) // subject.n_layers < work[0]
    with metered([subject]) as meter:
        again({LOW: turned(1.0)})
    assert meter.work == work[0], "other layers, other passes"
    known, first = Rejudged(subject, task, task.examples("fit"), often=True), []
    for strength in TIMES:
        with metered([subject]) as meter:
            found = known({HIGH: turned(strength)})
        first.append(meter.work)
        assert same(found, judge(subject, task, task.examples("fit"), {HIGH: turned(strength)}))
    assert first[0] < work[0] + work[1] and first[1:] == work[2:3] * (len(TIMES) - 1), "from the first time on"


class Wrong(TailPass):
    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        seen = super().__call__(delta, rows, observe)
        return seen._replace(read=-seen.read)


class NotReplayable(TailPass):
    def _capture(self) -> None:
        raise TypeError("a layer that cannot be called like this")


def repeated(subject: Subject, task: Task) -> Rejudged:
    """One that was asked often enough, and told the truth each time."""
    again, edits = Rejudged(subject, task, task.examples("fit")), {HIGH: turned(0.5)}
    for _ in range(3):
        assert same(again(edits), judge(subject, task, again.examples, edits))
    return again


@pytest.mark.parametrize(
    "change",
    [{"TailPass": Wrong}, {"TailPass": NotReplayable}, {"HELD": 1}],
    ids=["wrong", "not replayable", "too much"],
)
def test_where_short_passes_do_not_serve_they_are_full(
    change: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repeated(tiny.subject(), tiny.ToyTask())._tails
    for name, value in change.items():
        monkeypatch.setattr(rejudging, name, value)
    assert repeated(tiny.subject(), tiny.ToyTask())._tails == []


def test_a_text_is_written_from_its_prompt_on() -> None:
    assert repeated(tiny.subject(), tiny.ToyChat())._tails is None


def test_nothing_edited_is_nothing_saved() -> None:
    subject, task = tiny.subject(), tiny.ToyTask()
    again = Rejudged(subject, task, task.examples("fit"))
    for _ in range(2):
        assert same(again({}), judge(subject, task, again.examples, {}))
