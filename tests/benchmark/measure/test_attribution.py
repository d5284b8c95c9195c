"""Replays of the parts of a perturbation: at norms that can be compared, and of its own row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.minimum_norm import MinimumNorm
from attacks.soft_suffix import SoftSuffix
from benchmark.contracts.attack import Attack
from benchmark.measure.attribution import attribute
from benchmark.measure.group import Group, Scale
from benchmark.model.streams import readout_streams
from benchmark.sae.dictionary import open_dictionary
from benchmark.sae.parts import Parts, split
from benchmark.threats import campaign
from tests.groups import AT, BUDGETS, HERE, SEARCH, WIDE, Rows, cell, named
from tests.tiny import D_MODEL as D

ROWS = 5


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Recorder:
    """Reaches the goal where the perturbation goes far enough along a direction; keeps what it was asked."""

    def __init__(self, direction: Tensor, needs: float) -> None:
        self.direction, self.needs, self.asked = direction, needs, []

    def __call__(self, delta: Tensor) -> Tensor:
        self.asked.append(delta)
        return (delta * self.direction).flatten(1).sum(1) > self.needs


def parts_along(*lengths: float) -> tuple[Parts, Tensor]:
    """Parts along three orthonormal directions, with the given lengths."""
    axes = torch.eye(D)[:3].view(3, 1, 1, 1, D).expand(-1, ROWS, -1, -1, -1)
    parts = Parts(*(length * axis for length, axis in zip(lengths, axes, strict=True)))
    return parts, parts.clamped + parts.other + parts.residual


def test_parts_are_replayed_at_their_own_norm_and_at_that_of_the_whole() -> None:
    parts, delta = parts_along(0.0, 3.0, 4.0)
    replay = Recorder(torch.eye(D)[1], 4.0)
    found = attribute(parts, delta, replay, random(3, *delta.shape))
    norms = sorted(round(float(d.flatten(1).norm(dim=1).mean()), 4) for d in replay.asked)
    assert norms == [0.0, 0.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0]
    assert len(found) == ROWS
    clamped, other, residual = found[0].clamped, found[0].other, found[0].residual
    assert [part.share for part in (clamped, other, residual)] == pytest.approx([0.0, 0.6, 0.8])
    assert (other.recovered, other.equal_recovered) == (False, True), "its length was too short"
    assert (residual.recovered, residual.equal_recovered) == (False, False)
    assert clamped.recovered is clamped.equal_recovered is None, "there is no such part"


@pytest.mark.parametrize(("length", "empty"), [(0.0, True), (1e-5, True), (1e-3, False)])
def test_a_part_of_the_size_of_rounding_has_no_direction(length: float, empty: bool) -> None:
    parts, delta = parts_along(length, 3.0, 4.0)
    for row in attribute(parts, delta, Recorder(torch.eye(D)[0], 4.0), random(1, *delta.shape)):
        replayed = (row.clamped.recovered, row.clamped.equal_recovered)
        assert replayed == ((None, None) if empty else (False, True))


def test_cosines_between_parts_and_with_the_whole() -> None:
    parts, delta = parts_along(0.0, 3.0, 4.0)
    opposed = Parts(parts.clamped, parts.other + 2 * parts.residual, -parts.residual)
    cos = attribute(opposed, delta, Recorder(delta, 0.0), random(1, *delta.shape))[0].cos
    assert cos.other_residual == pytest.approx(-8 / (9 + 64) ** 0.5)
    assert cos.residual_delta == pytest.approx(-0.8)
    assert cos.clamped_other is cos.clamped_residual is cos.clamped_delta is None


def test_random_vectors_of_the_same_norm_are_the_control() -> None:
    parts, delta = parts_along(0.0, 3.0, 4.0)
    noise = random(200, *delta.shape)
    for needs, share in ((0.0, 0.5), (5.0, 0.0)):
        for row in attribute(parts, delta, Recorder(torch.eye(D)[1], needs), noise):
            assert row.random_recovered == pytest.approx(share, abs=0.15 * (share > 0))


# Rows.


def replayed(row: dict[str, Any]) -> bool:
    return any(name.startswith("attr_") for name in row)


def test_only_the_first_recovered_row_of_an_example_is_replayed(group: Group, searched: tuple[Rows, Any]) -> None:
    rows, _ = searched
    seen: set[str] = set()
    for row in rows:
        first = row["recovered"] and row["example_id"] not in seen
        assert replayed(row) is first
        if row["recovered"]:
            seen.add(row["example_id"])
    assert seen and sum(row["recovered"] for row in rows) > len(seen), "some recover at two budgets"


def test_a_replayed_row_is_about_its_own_perturbation(group: Group, searched: tuple[Rows, dict[str, Tensor]]) -> None:
    rows, deltas = searched
    dictionary = open_dictionary(group.subject, HERE)
    checked = [row for row in rows if replayed(row)]
    for row in checked:
        delta = deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        # written before the edit: on the undefended stream, here
        h = readout_streams(group.subject, group.task, [named(group, row)], frozenset({AT}))[AT]
        parts = split(dictionary, range(12), h[:, None], delta)
        for name, part in zip(Parts._fields, parts, strict=True):
            assert row[f"attr_{name}_share"] == pytest.approx(float(part.norm() / delta.norm()), rel=1e-3, abs=1e-4)
    shares = {round(row["attr_other_share"], 4) for row in checked}
    assert len(shares) == len(checked) > 2


@pytest.mark.parametrize("attack", [WIDE, replace(SEARCH, goal="wrong")], ids=["random", "wrong target"])
def test_controls_are_not_replayed_and_have_no_smallest_rescaling(group: Group, attack: Attack) -> None:
    rows, _ = cell(group, attack, (3.0, 10.0))
    assert any(row["recovered"] for row in rows)
    assert not any(replayed(row) for row in rows) and all(row.get("min_eps") is None for row in rows)


def test_nothing_is_replayed_unless_it_is_asked_for(group: Group, searched: tuple[Rows, Any]) -> None:
    rows, _ = cell(replace(group, attribution=False), SEARCH)
    assert not any(replayed(row) for row in rows)
    assert [row["recovered"] for row in rows] == [row["recovered"] for row in searched[0]]


def test_what_is_written_at_the_lowest_site_is_split_into_parts_and_a_suffix_is_not(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both write at boundary 0."""
    asked: list[Any] = []
    monkeypatch.setattr(
        campaign, "replay_parts", lambda g, target, delta, _: asked.append(target) or len(delta) * [None]
    )
    lowest = replace(group, sites=(0,), edits={}, scale=Scale({0: 1.0}, 1.0))
    for attack, is_split in ((SEARCH, True), (SoftSuffix(search=MinimumNorm(steps=2)), False)):
        asked.clear()
        cell(lowest, attack)
        assert bool(asked) is is_split
