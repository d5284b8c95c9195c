"""A monitor's score rises as the stream leaves what is benign, position by position, with a gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Monitor
from benchmark.measure.detection import make_detector
from defenses.mean_ablation import MeanAblation
from defenses.monitors import Kind, Mahalanobis, SaeResidual, ZScore
from defenses.sae_bottleneck import SaeBottleneck
from tests.defenses.world import CLAMP, GIVEN, HERE, RULE, fit, place, seen, stream, world
from tests.tiny import D_MODEL, ToyTask

KINDS = tuple(kind for kind in get_args(Kind) if kind != "none")


def monitor_of(kind: Any, folder: Path) -> Monitor:
    made = fit(replace(CLAMP, monitor=kind), world(folder)[0])
    assert made.monitor is not None
    return made.monitor


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_rises_with_the_displacement_of_a_single_position_and_has_a_gradient(
    kind: str, tmp_path: Path
) -> None:
    monitor = monitor_of(kind, tmp_path)
    h = stream()
    step = torch.zeros_like(h)
    step[1, 4] = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(1))
    scores = [monitor.score(h + size * step, place(h)) for size in (0.0, 40.0, 160.0, 640.0)]
    assert scores[0][1] < scores[1][1] < scores[2][1] < scores[3][1] and scores[0].shape == (3,)
    assert all(torch.equal(s[[0, 2]], scores[0][[0, 2]]) for s in scores), "other rows are not concerned"
    at = h.clone().requires_grad_()
    slope = torch.autograd.grad(monitor.score(at, place(h)).sum(), at)[0]
    assert slope.isfinite().all() and (slope.flatten(1).norm(dim=1) > 0).all() and (slope[:, 0] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_special_positions_and_what_lies_before_the_window_do_not_count(kind: str, tmp_path: Path) -> None:
    monitor = monitor_of(kind, tmp_path)
    h = stream()
    far = h.clone()
    far[:, 0] += 1000
    assert torch.equal(monitor.score(far, place(h)), monitor.score(h, place(h)))
    tail = monitor.score(h[:, 3:], place(h).columns(3))
    assert (tail <= monitor.score(h, place(h)) + 1e-5).all()
    assert torch.equal(monitor.score(h[:, :1], place(h[:, :1])), torch.zeros(3)), "nothing to look at"


@pytest.mark.parametrize("kind", KINDS)
def test_random_streams_are_told_from_those_of_the_defended_model(kind: Any, tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    fitting = seen(subject)
    made = replace(CLAMP, monitor=kind).fit(fitting)
    detector = make_detector(subject, ToyTask(), made)
    assert detector is not None and detector.false_positives <= 0.5  # 28 examples
    benign = fitting.streams(HERE, at="tokens", edits=made.edits)
    noise = benign.mean(0) + 4 * benign.std() * torch.randn(20, 6, D_MODEL, generator=torch.Generator().manual_seed(2))
    assert made.monitor is not None
    assert (made.monitor.score(noise, place(noise)) > detector.threshold).float().mean() > 0.9


def test_the_clamp_the_bottleneck_and_mean_ablation_carry_it_where_it_is_asked_for(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    for kind, expected in (("sae-residual", SaeResidual), ("z-score", ZScore), ("mahalanobis", Mahalanobis)):
        clamp: Any = replace(CLAMP, monitor=kind)
        for recipe in (clamp, SaeBottleneck(clamp), MeanAblation(layers=GIVEN, rule=RULE, monitor=clamp.monitor)):
            monitor = fit(recipe, subject).monitor
            assert isinstance(monitor, expected) and monitor.site == HERE
    assert fit(CLAMP, subject).monitor is None


def test_the_z_score_counts_standard_deviations_of_the_defended_latents(tmp_path: Path) -> None:
    _, dictionary = world(tmp_path)
    features = dictionary.features((3, 1))
    benign = stream(40, 8).flatten(0, 1)
    monitor = ZScore.fit(features, benign)
    pre = features.encode(benign).pre
    rise = torch.linalg.lstsq(features.encoder.T, torch.stack([7 * pre[:, 0].std(), torch.zeros(())])[:, None]).solution
    centre = torch.linalg.lstsq(features.encoder.T, (pre.mean(0) - features.bias)[:, None]).solution
    h = (centre + rise)[:, 0].expand(1, 2, D_MODEL)
    assert monitor.score(h, place(h)).item() == pytest.approx(7, rel=1e-3)


def test_latents_that_the_defense_holds_still_do_not_cry_wolf(tmp_path: Path) -> None:
    _, dictionary = world(tmp_path)
    features = dictionary.features((3, 1))
    still = stream(40, 8).flatten(0, 1)
    axis = features.encoder[:, 0] / features.encoder[:, 0].norm()
    still = still - (still @ axis)[:, None] * axis
    monitor = ZScore.fit(features, still)
    assert monitor.deviation[0] >= 0.0099 * monitor.deviation[1]


def test_benign_deviations_are_white_and_fewer_samples_than_dimensions_are_enough() -> None:
    mixing = torch.diag(torch.linspace(0.5, 3, D_MODEL).double()).roll(1, 0) + 0.2

    def samples(n: int) -> Tensor:
        drawn = torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(n)).double() @ mixing + 3
        return drawn.float()

    monitor = Mahalanobis.fit(HERE, samples(20_000))
    white = (samples(20_001) - monitor.mean) @ monitor.whitening
    assert torch.allclose(torch.cov(white.T), torch.eye(D_MODEL), atol=0.1)
    ten = torch.cov(samples(10).T.double(), correction=0)
    assert torch.linalg.matrix_rank(ten) < D_MODEL
    whitening = Mahalanobis.fit(HERE, samples(10)).whitening.double()
    shrunk = torch.linalg.inv(whitening @ whitening.T)
    assert torch.linalg.eigvalsh(shrunk).min() > 0
    assert shrunk.trace() == pytest.approx(float(ten.trace()), rel=1e-3), "shrunk towards a multiple of the identity"
