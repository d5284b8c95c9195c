"""A tail pass that differs from the full one is noticed, whatever an attacker may write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmark.contracts.example import Example, Split
from benchmark.measure import self_check
from benchmark.measure.self_check import tail_is_exact, tails_run_as_one
from benchmark.model.passes import Seen
from benchmark.model.tail import TailBatch, TailPass
from benchmark.registry import THREATS, threat
from tests import tiny
from tests.groups import halved_group

THREAT_MODELS = [threat(name) for name in THREATS.names()]


class WrongValues(TailPass):
    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        seen = super().__call__(delta, rows, observe)
        return seen._replace(read=seen.read * 1.01)


class WrongGradient(TailPass):
    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        assert delta is not None
        return super().__call__(0.9 * delta + 0.1 * delta.detach(), rows, observe)


class NotReplayable(TailPass):
    def _capture(self) -> None:
        raise TypeError("a layer that cannot be called like this")


class NotFinite(TailPass):
    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        seen = super().__call__(delta, rows, observe)
        return seen._replace(read=seen.read * torch.nan)


@pytest.mark.parametrize("broken", [WrongValues, WrongGradient, NotReplayable, NotFinite])
def test_the_self_check_refuses_a_broken_tail(broken: type[TailPass], monkeypatch: pytest.MonkeyPatch) -> None:
    group = halved_group(tiny.subject("llama"), tiny.ToyTask())
    assert tail_is_exact(group, THREAT_MODELS)
    monkeypatch.setattr(self_check, "TailPass", broken)
    assert not tail_is_exact(group, THREAT_MODELS)


class WrongOnlyOf(TailPass):
    """Wrong for one access: the boundary and the side of the edit that it writes to."""

    at: tuple[int, bool] = (0, False)

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        seen = super().__call__(delta, rows, observe)
        wrong = (self.writes.boundaries[0], self.writes.after) == self.at
        return seen._replace(read=1.01 * seen.read) if wrong else seen


@pytest.mark.parametrize(
    ("names", "at"),
    [({"soft_suffix", "token_suffix"}, (0, False)), ({"before_edit"}, (2, False)), ({"after_edit"}, (2, True))],
    ids=["suffix", "before the edit", "after it"],
)
def test_every_access_of_a_suite_is_tried(
    names: set[str], at: tuple[int, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a search typed tokens are vectors too; what no suite gives is not looked at."""
    group = halved_group(tiny.subject(), tiny.ToyTask())
    monkeypatch.setattr(self_check, "TailPass", type("Wrong", (WrongOnlyOf,), {"at": at}))
    for model in THREAT_MODELS:
        assert tail_is_exact(group, [model]) is (model.name not in names)
    assert not tail_is_exact(group, THREAT_MODELS)


class WrongWhenWide(TailPass):
    """Wrong where more than one position is written, as is a pass whose mask serves one column only."""

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        seen = super().__call__(delta, rows, observe)
        return seen._replace(read=1.01 * seen.read) if self.writes.width > 1 and self.first else seen


@pytest.mark.parametrize(("perturbed", "exact"), [(1, True), (2, False), ("all", False)])
def test_as_many_positions_are_tried_as_are_attacked(
    perturbed: int | str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = replace(halved_group(tiny.subject(), tiny.ToyTask()), perturbed=perturbed)
    monkeypatch.setattr(self_check, "TailPass", WrongWhenWide)
    assert tail_is_exact(group, THREAT_MODELS) is exact


class WrongWhenLong(TailPass):
    """Wrong behind a long prefix."""

    def __call__(self, delta: Tensor | None, rows: Tensor, observe: frozenset[int] = frozenset()) -> Seen:
        seen = super().__call__(delta, rows, observe)
        return seen._replace(read=1.01 * seen.read) if self.pack.length > 8 else seen


class Short(tiny.ToyTask):
    """The shortest prompts alone."""

    def examples(self, split: Split) -> Sequence[Example]:
        return [e for e in super().examples(split) if len(e.prompt.split()) == 6]


def test_the_longest_prompts_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    short, group = (replace(halved_group(tiny.subject(), task), suffix_tokens=1) for task in (Short(), tiny.ToyTask()))
    monkeypatch.setattr(self_check, "TailPass", WrongWhenLong)
    assert tail_is_exact(short, THREAT_MODELS) and not tail_is_exact(group, THREAT_MODELS)


class WrongTogether(TailBatch):
    """Wrong for the longest of the packs that run as one."""

    def __call__(
        self, asked: Mapping[int, tuple[Tensor, Tensor]], observe: frozenset[int] = frozenset()
    ) -> dict[int, Seen]:
        seen = super().__call__(asked, observe)
        last = max(seen)
        return {**seen, last: seen[last]._replace(read=1.01 * seen[last].read)}


class SlopedTogether(TailBatch):
    """Right values and a wrong gradient."""

    def __call__(
        self, asked: Mapping[int, tuple[Tensor, Tensor]], observe: frozenset[int] = frozenset()
    ) -> dict[int, Seen]:
        return super().__call__({k: (0.9 * d + 0.1 * d.detach(), rows) for k, (d, rows) in asked.items()}, observe)


class Refusing(TailBatch):
    def __call__(
        self, asked: Mapping[int, tuple[Tensor, Tensor]], observe: frozenset[int] = frozenset()
    ) -> dict[int, Seen]:
        raise TypeError("a layer that cannot be told what is absent")


@pytest.mark.parametrize("broken", [WrongTogether, SlopedTogether, Refusing])
def test_several_lengths_run_as_one_where_that_changes_nothing(
    broken: type[TailBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = halved_group(tiny.subject("llama"), tiny.ToyTask())
    assert tails_run_as_one(group, THREAT_MODELS)
    monkeypatch.setattr(self_check, "TailBatch", broken)
    assert not tails_run_as_one(group, THREAT_MODELS)
