"""Three parts that sum to the perturbation, whatever the SAE."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sae.layouts.normal import Sae
from benchmark.sae.parts import split, split_sites
from benchmark.search.constraint import EncoderNullSpace
from benchmark.sites import Site
from tests import tiny

D, ROWS = tiny.D_MODEL, 5
SITE = Site.parse(tiny.SITE)
PROTECTED = (1, 4, 7)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def orthonormal(width: int = 12) -> Dictionary:
    """Latents with the same orthonormal directions in and out, all active on the stream of ones along them."""
    directions = torch.linalg.qr(random(D, width, seed=1))[0]
    sae = Sae("standard", directions, directions.T.contiguous(), torch.zeros(width), torch.zeros(D))
    return Dictionary(SITE, "orthonormal", sae, torch.device("cpu"))


def stream(dictionary: Dictionary, positions: int = 2) -> Tensor:
    """Every latent has activation 3."""
    return 3 * dictionary.everything.decoder.sum(0).expand(ROWS, positions, -1)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "topk"])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("normalize", ["none", "layer_norm"])
def test_the_parts_sum_to_the_perturbation(architecture: str, centred: bool, normalize: str, tmp_path: Path) -> None:
    metadata = {"model_from_pretrained_kwargs": {"center_writing_weights": centred}}
    folder = tiny.sae_folder(tmp_path, architecture, metadata=metadata, normalize_activations=normalize)
    dictionary = open_dictionary(tiny.subject(), SITE, folder)
    h, delta = 2 * random(ROWS, 3, D), random(ROWS, 3, D, seed=1)
    parts = split(dictionary, PROTECTED, h, delta)
    assert all(part.shape == delta.shape for part in parts)
    torch.testing.assert_close(parts.clamped + parts.other + parts.residual, delta, rtol=1e-5, atol=1e-5)
    everything = dictionary.everything
    change = everything.encode(h + delta).act - everything.encode(h).act
    scale = everything.scaling(h)[1]
    factor = 1.0 if scale is None else scale
    rows = list(PROTECTED)
    by_hand = factor * (change[..., rows] @ everything.decoder[rows])
    torch.testing.assert_close(parts.clamped, by_hand, rtol=1e-4, atol=1e-5)
    assert float(parts.clamped.norm()) > 0 and float(parts.other.norm()) > 0


def test_a_write_along_a_protected_decoder_row_is_the_clamped_part() -> None:
    dictionary = orthonormal()
    h, rows = stream(dictionary), dictionary.everything.decoder
    for latent, which in ((4, "clamped"), (5, "other")):
        delta = 2 * rows[latent].expand_as(h)
        parts = split(dictionary, PROTECTED, h, delta)._asdict()
        torch.testing.assert_close(parts.pop(which), delta, rtol=0, atol=1e-5)
        assert all(float(rest.norm()) < 1e-5 * float(delta.norm()) for rest in parts.values())


def test_what_the_sae_does_not_see_is_the_residual() -> None:
    dictionary = orthonormal()
    h, seen = stream(dictionary), dictionary.everything.encoder
    blind = random(ROWS, 2, D, seed=3)
    blind = blind - blind @ seen @ seen.T
    parts = split(dictionary, PROTECTED, h, blind)
    torch.testing.assert_close(parts.residual, blind, rtol=0, atol=1e-5)
    silenced = split(dictionary, PROTECTED, h, -5 * dictionary.everything.decoder[4].expand_as(h))
    # an activation of 3 can fall by 3: the rest of the write is nothing that the latent explains
    torch.testing.assert_close(silenced.clamped, 0.6 * (silenced.clamped + silenced.residual), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated"])
def test_an_encoder_orthogonal_perturbation_has_no_clamped_part(architecture: str, tmp_path: Path) -> None:
    dictionary = open_dictionary(tiny.subject(), SITE, tiny.sae_folder(tmp_path, architecture))
    constraint = EncoderNullSpace([[dictionary.features(PROTECTED)]], D)
    h, free = 2 * random(ROWS, 1, D), random(ROWS, 1, 1, D, seed=1)
    delta = constraint.project(free)
    held = split(dictionary, PROTECTED, h, delta[:, 0])
    assert float(held.clamped.norm()) < 1e-5 * float(delta.norm()) < float(held.other.norm())
    assert float(split(dictionary, PROTECTED, h, free[:, 0]).clamped.norm()) > 1e-2 * float(free.norm())


def test_sites_are_split_one_by_one() -> None:
    dictionaries = [orthonormal(12), orthonormal(8)]
    streams = [stream(d) for d in dictionaries]
    delta = random(ROWS, 2, 2, D, seed=5)
    both = split_sites(dictionaries, [PROTECTED, (0, 2)], streams, delta)
    for i, latents in enumerate((PROTECTED, (0, 2))):
        one = split(dictionaries[i], latents, streams[i], delta[:, i])
        assert all(torch.equal(whole[:, i], part) for whole, part in zip(both, one, strict=True))
