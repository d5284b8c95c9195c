"""Latents are found again where they are, and not where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sae.stability import as_frequent, decoder_cosines, frequencies, stability
from benchmark.sites import Site
from tests import tiny

SITE = Site.parse(tiny.SITE)
SOME = [3, 10, 41, 7]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny.subject()


@pytest.fixture(scope="module")
def one(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Dictionary:
    return open_dictionary(subject, SITE, tiny.sae_folder(tmp_path_factory.mktemp("one")))


@pytest.fixture(scope="module")
def stream() -> torch.Tensor:
    return torch.randn(300, tiny.D_MODEL, generator=torch.Generator().manual_seed(0))


ORDER = torch.randperm(64, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def shuffled(subject: Subject, one: Dictionary, tmp_path_factory: pytest.TempPathFactory) -> Dictionary:
    """The same latents in another order, with decoder rows of other lengths."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("shuffled")
    tiny.sae_folder(folder)
    weights = load_file(folder / "sae_weights.safetensors")
    for name, axis in (("W_enc", 1), ("W_dec", 0), ("b_enc", 0), ("threshold", 0)):
        weights[name] = weights[name].index_select(axis, ORDER).contiguous()
    weights["W_dec"] *= torch.linspace(0.5, 2, 64)[:, None]
    save_file(weights, folder / "sae_weights.safetensors")
    return open_dictionary(subject, SITE, str(folder))


def test_latents_are_found_in_a_shuffled_sae(one: Dictionary, shuffled: Dictionary, stream: torch.Tensor) -> None:
    there = [ORDER.tolist().index(latent) for latent in SOME]
    found = stability(one, shuffled, SOME, there[::-1], stream)
    assert [match.partner for match in found.best] == there
    assert {(m.latent, m.partner) for m in found.one_to_one} == set(zip(SOME, there, strict=True))
    for match in (*found.best, *found.others):
        assert match.cosine == pytest.approx(1, abs=1e-5) and match.frequency == match.partner_frequency
    assert found.site == tiny.SITE and found.tokens == 300


def test_they_are_not_found_in_another_sae(
    subject: Subject, one: Dictionary, stream: torch.Tensor, tmp_path: Path
) -> None:
    stranger = open_dictionary(subject, SITE, tiny.sae_folder(tmp_path, d_sae=48, seed=9))
    found = stability(one, stranger, SOME, [1, 2], stream)
    assert found.best_cosine < 0.7 and abs(found.best_cosine - found.baseline_cosine) < 0.2
    assert len(found.one_to_one) == 2 and {m.partner for m in found.one_to_one} == {1, 2}
    matrix = decoder_cosines(one.everything.decoder, stranger.everything.decoder)
    assert [m.cosine for m in found.best] == pytest.approx([float(matrix[i].max()) for i in SOME])


def test_what_is_shared_stands_out_from_what_is_not(
    subject: Subject, one: Dictionary, stream: torch.Tensor, tmp_path: Path
) -> None:
    """Only the defended latents are in the other SAE, and the baseline shows that it is they."""
    from safetensors.torch import load_file, save_file

    tiny.sae_folder(tmp_path, seed=9)
    weights = load_file(tmp_path / "sae_weights.safetensors")
    weights["W_dec"][: len(SOME)] = one.everything.decoder[SOME]
    save_file(weights, tmp_path / "sae_weights.safetensors")
    found = stability(one, open_dictionary(subject, SITE, str(tmp_path)), SOME, range(len(SOME)), stream)
    assert found.best_cosine == pytest.approx(1, abs=1e-5) and found.baseline_cosine < 0.7


def test_one_to_one_gives_the_largest_sum_and_not_each_its_likest() -> None:
    from benchmark.sae.stability import assigned

    cosines = torch.tensor([[0.9, 0.8], [0.85, 0.1]])
    assert assigned(cosines, [0, 1], [0, 1]) == [(0, 1), (1, 0)]
    assert assigned(cosines, [1], [1, 0]) == [(1, 0)]


def test_frequencies_are_shares_of_the_tokens(one: Dictionary, stream: torch.Tensor) -> None:
    expected = [(one.everything.encode(stream).act[:, i] > 0).double().mean() for i in range(64)]
    assert frequencies(one, stream).tolist() == pytest.approx([float(e) for e in expected])


def test_the_others_are_as_frequent_and_none_of_the_latents() -> None:
    often = torch.tensor([0.5, 0.1, 0.52, 0.11, 0.9, 0.5])
    assert as_frequent(often, [0, 1], seed=0) == [5, 3]
    assert as_frequent(often, [0, 5], seed=0) == [2, 3], "nobody twice"
    drawn = {as_frequent(torch.full((9,), 0.5), [0], seed=seed)[0] for seed in range(20)}
    assert len(drawn) > 3 and 0 not in drawn


@pytest.mark.parametrize(
    ("latents", "partners", "message"),
    [
        ([64], [0], r"latents \[64\]"),
        ([], [0], "name each once"),
        ([1], [2, 2], "name each once"),
        (range(33), [0], "too few to compare"),
    ],
)
def test_sets_that_cannot_be_are_refused(
    one: Dictionary, stream: torch.Tensor, latents: list[int], partners: list[int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        stability(one, one, latents, partners, stream)


def test_saes_of_two_places_are_refused(
    subject: Subject, one: Dictionary, stream: torch.Tensor, tmp_path: Path
) -> None:
    hook = "blocks.2.hook_resid_post"
    folder = tiny.sae_folder(tmp_path, metadata={"hook_name": hook})
    with pytest.raises(UsageError, match="give two of one site"):
        stability(one, open_dictionary(subject, Site.parse(hook), folder), SOME, SOME, stream)
