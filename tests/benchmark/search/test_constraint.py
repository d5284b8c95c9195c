"""The null space of the encoder: exact, whatever the columns are like, and nothing protected moves in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.sae.dictionary import open_dictionary
from benchmark.sae.features import FeatureSet, InputScaling
from benchmark.search.constraint import EncoderNullSpace, Free
from benchmark.sites import Site
from tests import tiny

D = tiny.D_MODEL
SITE = Site.parse(tiny.SITE)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PLAIN = InputScaling()


def features(encoder: Tensor, scaling: InputScaling = PLAIN) -> FeatureSet:
    """Latents with given encoder columns."""
    k = encoder.shape[1]
    zero = torch.zeros(k)
    return FeatureSet(SITE, tuple(range(k)), encoder, zero, zero, torch.zeros(k, D), scaling)


def scaled() -> Tensor:
    return random(D, 12, seed=1) * torch.logspace(-5, 5, 12)


def dependent() -> Tensor:
    """Duplicates, opposites, sums, a dead column."""
    a = random(D, 5, seed=2)
    return torch.cat([a, a, -3 * a[:, :2], a.sum(1, keepdim=True), torch.zeros(D, 1)], 1)


def nearly_equal() -> Tensor:
    """Two columns whose difference, a thousandth of them, is a direction of its own."""
    a = random(D, 1, seed=3)
    return torch.cat([a, a + 1e-3 * random(D, 1, seed=4)], 1)


COLUMNS = {"plain": lambda: random(D, 8, seed=5), "scaled": scaled, "dependent": dependent, "close": nearly_equal}


@pytest.fixture(params=[(name, centred) for name in COLUMNS for centred in (False, True)], ids=str)
def protected(request: Any) -> FeatureSet:
    name, centred = request.param
    return features(COLUMNS[name](), InputScaling(centred))


def leak(columns: Tensor, delta: Tensor) -> float:
    """Largest ||a^T delta|| / (||a|| ||delta||) over the columns that are not dead."""
    a = columns[:, columns.norm(dim=0) > 0].double()
    inside = torch.einsum("rpd,dk->rpk", delta[:, 0].double(), a / a.norm(dim=0))
    return float((inside.norm(dim=1) / delta[:, 0].double().flatten(1).norm(dim=1)[:, None]).max())


def test_a_projected_perturbation_is_orthogonal_to_every_column(protected: FeatureSet) -> None:
    constraint = EncoderNullSpace([[protected]], D)
    free = random(6, 1, 3, D, seed=7)
    delta = constraint.project(free)
    assert delta.dtype == torch.float32 and delta.shape == free.shape
    assert bool((constraint.violation(delta) <= 1e-5).all())
    assert leak(protected.directions(), delta) <= 1e-5
    assert float(delta.norm()) > 0.3 * float(free.norm())
    assert leak(protected.directions(), free) > 1e-2 and bool((constraint.violation(free) > 1e-3).all())


def test_the_projection_is_the_closest_point_and_projecting_again_changes_nothing(protected: FeatureSet) -> None:
    constraint = EncoderNullSpace([[protected]], D)
    free = random(6, 1, 3, D, seed=8)
    delta = constraint.project(free)
    torch.testing.assert_close(constraint.project(delta), delta, rtol=0, atol=1e-6)
    removed, other = free - delta, constraint.project(random(6, 1, 3, D, seed=9))
    assert float((removed * other).sum().abs()) < 1e-4 * float(removed.norm() * other.norm())


def test_a_violation_does_not_depend_on_the_size_of_the_perturbation(protected: FeatureSet) -> None:
    constraint = EncoderNullSpace([[protected]], D)
    free = random(4, 1, 1, D, seed=10)
    torch.testing.assert_close(constraint.violation(1e-4 * free), constraint.violation(free))
    assert torch.equal(constraint.violation(torch.zeros_like(free)), torch.zeros(4))


def test_where_no_direction_is_left_nothing_may_be_written() -> None:
    """More latents than dimensions: what rounding leaves over is no perturbation and no violation."""
    for scaling in (PLAIN, InputScaling(centred=True)):
        constraint = EncoderNullSpace([[features(random(D, 2 * D), scaling)]], D)
        delta = constraint.project(random(5, 1, 2, D, seed=1))
        assert bool((constraint.violation(delta) <= 1e-5).all())
        if scaling.centred:  # the mean is never seen
            assert float((delta - delta.mean(-1, keepdim=True)).norm()) < 1e-5 * float(delta.norm())
        else:
            assert torch.equal(delta, torch.zeros_like(delta))


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated"])
@pytest.mark.parametrize("centred", [False, True])
def test_protected_activations_do_not_move_in_the_null_space(architecture: str, centred: bool, tmp_path: Path) -> None:
    metadata = {"model_from_pretrained_kwargs": {"center_writing_weights": centred}}
    folder = tiny.sae_folder(tmp_path, architecture, metadata=metadata)
    held = open_dictionary(tiny.subject(), SITE, folder).features(range(0, 20, 2))
    constraint = EncoderNullSpace([[held]], D)
    h, free = 2 * random(8, 3, D, seed=1) + 0.5, 4 * random(8, 1, 3, D, seed=2)
    delta = constraint.project(free)
    before, inside, outside = (held.encode(h + d).act for d in (0, delta[:, 0], free[:, 0]))
    assert bool((before > 0).any())
    assert torch.equal(inside > 0, before > 0)
    assert float((inside - before).norm()) < 1e-5 * float(before.norm())
    assert float((outside - before).norm()) > 0.3 * float(before.norm())


def test_every_site_has_its_own_constraint_and_a_site_without_features_is_free() -> None:
    first, second = features(random(D, 6, seed=1)), features(random(D, 6, seed=2))
    constraint = EncoderNullSpace([[first], [], [second, features(random(D, 3, seed=3))]], D)
    free = random(4, 3, 2, D, seed=4)
    delta = constraint.project(free)
    assert torch.equal(delta[:, 1], free[:, 1])
    alone = [EncoderNullSpace([sets], D) for sets in ([first], [second, features(random(D, 3, seed=3))])]
    for site, single in zip((0, 2), alone, strict=True):
        torch.testing.assert_close(delta[:, site : site + 1], single.project(free[:, site : site + 1]))
    assert bool((constraint.violation(delta) <= 1e-5).all())
    for site in (0, 2):  # a leak at one site is seen
        mixed = delta.clone()
        mixed[:, site] = free[:, site]
        assert bool((constraint.violation(mixed) > 1e-2).all())


def test_without_protected_features_nothing_is_asked() -> None:
    free = random(3, 2, 1, D)
    for constraint in (Free(), EncoderNullSpace([[], []], D)):
        assert torch.equal(constraint.project(free), free)
        assert torch.equal(constraint.violation(free), torch.zeros(3))


def ascend(constraint: EncoderNullSpace, project_delta: bool) -> list[float]:
    """Violations along some steps of Adam on a fixed objective, the gradient projected in either case."""
    goal = random(2, 1, 1, D, seed=6)
    delta = torch.zeros(2, 1, 1, D, requires_grad=True)
    optimiser = torch.optim.Adam([delta], lr=0.05)
    violations = []
    for _ in range(20):
        gradient = torch.autograd.grad((delta - goal).square().sum(), delta)[0]
        delta.grad = constraint.project(gradient)
        optimiser.step()
        if project_delta:
            delta.data = constraint.project(delta.data)
        violations.append(float(constraint.violation(delta.detach()).max()))
    return violations


def test_projecting_only_the_gradient_leaks_and_projecting_the_perturbation_does_not() -> None:
    """Why a perturbation is projected after every step: Adam rescales coordinates, which leaves any subspace."""
    constraint = EncoderNullSpace([[features(random(D, 12, seed=5))]], D)
    assert max(ascend(constraint, project_delta=True)) <= 1e-5
    assert min(ascend(constraint, project_delta=False)) > 0.05


@pytest.mark.parametrize("normalize", ["layer_norm", "constant_norm_rescale"])
def test_an_sae_that_normalises_its_input_has_no_null_space(normalize: str, tmp_path: Path) -> None:
    folder = tiny.sae_folder(tmp_path, "standard", normalize_activations=normalize)
    held = open_dictionary(tiny.subject(), SITE, folder).features([1, 2])
    with pytest.raises(UsageError, match=f"{tiny.SITE} normalises its input .{normalize}.*--constraint none"):
        EncoderNullSpace([[held]], D)
