"""A soft suffix that hides: its penalty has a gradient, and lowers what shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attacks.minimum_norm import MinimumNorm
from attacks.soft_suffix import SoftSuffix
from benchmark.contracts.defense import Monitor, Where
from benchmark.measure.detection import Detector
from benchmark.measure.group import Group
from benchmark.model.pack import make_packs
from benchmark.registry import threat
from benchmark.sae.features import FeatureSet
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from benchmark.sites import Site
from tests.groups import cell, halved_group
from tests.tiny import D_MODEL, ToyTask, subject

K = 8


class Loud(Monitor):
    """The mean size of the stream."""

    site = Site(2)

    def score(self, h: Tensor, where: Where) -> Tensor:
        return h.square().mean((1, 2))


@pytest.fixture(scope="module")
def group() -> Group:
    made = halved_group(subject(), ToyTask())
    encoder = torch.randn(D_MODEL, K, generator=torch.Generator().manual_seed(1))
    features = FeatureSet(Site(2), tuple(range(K)), encoder, torch.zeros(K), torch.zeros(K), encoder.T)
    return replace(made, fitted=replace(made.fitted, protected=[features]))


def problem(group: Group) -> Problem:
    attack, pack = SoftSuffix(), make_packs(group.subject, group.task, group.attacked, 4)[0]
    return threat(attack.threat_model).problem(group, attack.terms(0), (0.5, 2.0), pack, PackSize(256))


@pytest.mark.parametrize("monitored", [False, True])
def test_the_penalty_has_the_gradient_of_what_shows(group: Group, monitored: bool) -> None:
    if monitored:
        loud = Detector(Loud(), 1e-3, 0.0)
        group = replace(group, detector=loud, fitted=replace(group.fitted, protected=()))
    plain = problem(group)
    hiding = plain.penalised(2.0)
    delta = 0.3 * plain.noise()
    way = torch.randn(delta.shape, generator=torch.Generator().manual_seed(0))
    gap = hiding.slope(delta).gradient - plain.slope(delta).gradient
    assert (gap.flatten(1).norm(dim=1) > 1e-3).all(), "the study's own term had none"

    def cost(at: Tensor) -> Tensor:
        return hiding.evaluate(at).objective - plain.evaluate(at).objective

    step = 1e-3
    slope = (cost(delta + step * way) - cost(delta - step * way)) / (2 * step)
    torch.testing.assert_close(slope, (gap * way).flatten(1).sum(1), rtol=0.05, atol=0.02)


def test_nothing_shows_where_nothing_is_written(group: Group) -> None:
    """But that a suffix is there at all, even as copies of a token of the prompt."""
    made = problem(group)
    loud = made.penalised(1.0).evaluate(made.zeros()).objective - made.evaluate(made.zeros()).objective
    assert (loud <= 0).all()


def test_hiding_lowers_the_drift(group: Group) -> None:
    def drift(penalty: float) -> float:
        attack = SoftSuffix(penalty=penalty, search=MinimumNorm(steps=10), goal="wrong")
        moved = [row["drift_pre_abs"] for row in cell(group, attack, (1.0,))[0]]
        return sum(moved) / len(moved)

    loud = drift(0.0)
    assert drift(20.0) < 0.95 * loud and drift(100.0) < 0.7 * loud


def test_both_searches_are_on_one_bill(group: Group) -> None:
    made = problem(group)
    SoftSuffix(penalty=1.0, search=MinimumNorm(steps=2)).run(made)
    assert made.forwards.sum() > 0 and made.backwards.sum() > 0
