"""What latents see of the stream: directions, thresholds, and the scaling of the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sae.features import FeatureSet, InputScaling
from benchmark.sites import Site
from tests import tiny

SITE = Site.parse(tiny.SITE)
LATENTS = [0, 7, 31, 50]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dictionary(
    folder: Path, architecture: str = "standard", normalize: str = "none", centred: bool = False
) -> Dictionary:
    metadata = {"model_from_pretrained_kwargs": {"center_writing_weights": centred}}
    made = tiny.sae_folder(folder, architecture, normalize_activations=normalize, metadata=metadata)
    return open_dictionary(tiny.subject(), SITE, made)


@pytest.fixture(params=["standard", "jumprelu", "gated", "topk"])
def architecture(request: Any) -> str:
    return request.param


@pytest.mark.parametrize("centred", [False, True])
def test_pre_activations_depend_on_the_stream_along_their_directions_only(
    architecture: str, centred: bool, tmp_path: Path
) -> None:
    features = dictionary(tmp_path, architecture, centred=centred).features(LATENTS)
    h = random(5, tiny.D_MODEL)
    jacobian: Any = torch.autograd.functional.jacobian(lambda at: features.encode(at).pre.sum(0), h)
    slopes, directions = jacobian.double(), features.directions()  # (k, rows, d_model), (d_model, k)
    for i in range(len(LATENTS)):
        along = directions[:, i] / directions[:, i].norm()
        torch.testing.assert_close(slopes[i], (slopes[i] @ along)[:, None] * along, rtol=0, atol=1e-5)
        assert bool((slopes[i].norm(dim=1) > 0).all())
        if architecture != "gated":  # its magnitude has a gain
            torch.testing.assert_close(slopes[i], directions[:, i].expand(5, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("normalize", "affine"), [("none", True), ("layer_norm", False), ("constant_norm_rescale", False)]
)
def test_a_scaling_says_truly_whether_pre_activations_are_affine(normalize: str, affine: bool, tmp_path: Path) -> None:
    features = dictionary(tmp_path, normalize=normalize).features(LATENTS)
    x, y = random(6, tiny.D_MODEL, seed=1), 3 * random(6, tiny.D_MODEL, seed=2)
    between = features.encode(0.3 * x + 0.7 * y).pre
    error = (between - 0.3 * features.encode(x).pre - 0.7 * features.encode(y).pre).abs().max()
    assert features.scaling.affine == affine
    assert (float(error) < 1e-5) == affine


@pytest.mark.parametrize(
    ("scaling", "blind_to_shift", "blind_to_gain"),
    [
        (InputScaling(), False, False),
        (InputScaling(centred=True), True, False),
        (InputScaling(normalize="layer_norm"), True, True),
        (InputScaling(normalize="constant_norm_rescale"), False, True),
        (InputScaling(centred=True, normalize="constant_norm_rescale"), True, True),
    ],
)
def test_what_a_scaling_takes_away_is_not_seen(
    scaling: InputScaling, blind_to_shift: bool, blind_to_gain: bool
) -> None:
    h = random(4, tiny.D_MODEL)
    plain, shifted, larger = (scaling(x)[0] for x in (h, h + 5, 4 * h))
    assert torch.allclose(plain, shifted, atol=1e-4) == blind_to_shift
    assert torch.allclose(plain, larger, atol=1e-4) == blind_to_gain


def test_a_decoded_change_is_linear_and_nothing_is_nothing(architecture: str, tmp_path: Path) -> None:
    for normalize in ("none", "layer_norm"):
        features = dictionary(tmp_path / normalize, architecture, normalize).features(LATENTS)
        h, a, b = random(3, tiny.D_MODEL), random(3, 4, seed=1), random(3, 4, seed=2)
        both = features.decode_change(h, 2 * a + b)
        torch.testing.assert_close(both, 2 * features.decode_change(h, a) + features.decode_change(h, b))
        assert torch.equal(features.decode_change(h, 0 * a), torch.zeros(3, tiny.D_MODEL))


def test_a_negative_threshold_lets_nothing_below_zero_through(tmp_path: Path) -> None:
    made = dictionary(tmp_path, "jumprelu")
    file = tmp_path / "sae_weights.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"threshold": tensors["threshold"] - 0.3}, file)
    low = open_dictionary(tiny.subject(), SITE, made.source).everything
    found = low.encode(random(30, tiny.D_MODEL))
    assert bool((found.act >= 0).all())
    assert torch.equal(found.pre > found.threshold, found.act > 0)
    raw = tensors["threshold"] - 0.3
    assert bool((raw < 0).any()) and torch.equal(found.act, found.pre.relu() * (found.pre > raw))


def test_a_gated_latent_needs_both_its_gate_and_its_magnitude(tmp_path: Path) -> None:
    features = dictionary(tmp_path, "gated").everything
    assert features.magnitude is not None
    h = random(50, tiny.D_MODEL)
    gate = h @ features.encoder + features.bias
    size = (h @ features.encoder) * features.magnitude[0] + features.magnitude[1]
    assert bool(((gate > 0) & (size < 0)).any()) and bool(((gate < 0) & (size > 0)).any())
    assert torch.equal(features.encode(h).act > 0, (gate > 0) & (size > 0))


def test_competing_latents_take_each_others_place(tmp_path: Path) -> None:
    """TopK: exactly k are active, and what raises one lowers another, in a subset too."""
    made = dictionary(tmp_path, "topk")
    h = random(20, tiny.D_MODEL)
    before = made.everything.encode(h)
    assert bool(((before.act > 0).sum(-1) == 8).all())
    loser, row = before.pre.masked_fill(before.act > 0, -torch.inf).argmax(-1), torch.arange(20)
    push = made.everything.directions()[:, loser].T.float()
    after = made.everything.encode(h + push)
    assert bool((after.act[row, loser] > 0).all())
    assert bool(((before.act > 0) & (after.act == 0)).any(-1).all())
    some: FeatureSet = made.features(LATENTS)
    assert torch.equal(some.encode(h + push).act, after.act[:, LATENTS])
