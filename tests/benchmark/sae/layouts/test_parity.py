"""What is read of each layout computes what the library of origin computes, on a random SAE in exactly its files.

Where no library of origin is on the index, against its published formula, and against the loaders of sae_lens where
those are right.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from benchmark.model.subject import Subject
from benchmark.sae.convert import converted
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sae.layouts.normal import Sae
from benchmark.sites import Site
from tests import tiny
from tests.benchmark.sae import origins
from tests.benchmark.sae.writers import path_of, random_sae, write

SITE = Site.parse("blocks.1.hook_resid_post")


class Coded(NamedTuple):
    """Activations and the reconstruction of some rows."""

    act: Tensor
    out: Tensor


def rows() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    h = torch.randn(50, tiny.D_MODEL, generator=generator)
    return h * torch.linspace(0.5, 3, 50)[:, None] + 0.4


def opened(source: Path | str, name: str = "tiny") -> Dictionary:
    return open_dictionary(Subject(tiny.model(), tiny.tokenizer(), name), SITE, str(source))


def ours(dictionary: Dictionary, h: Tensor) -> Coded:
    act = dictionary.everything.encode(h).act
    return Coded(act, dictionary.decode(act))


def assert_same(found: Coded, expected: Coded, tolerance: float = 1e-5) -> None:
    assert 0.02 < float((expected.act > 0).float().mean()) < 0.9, "some are active, and not all"
    assert torch.equal(found.act > 0, expected.act > 0)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and float((a - b).abs().max() / b.abs().max()) < tolerance


def of_library(sae: Any, h: Tensor) -> Coded:
    with torch.no_grad():
        act = sae.encode(h)
        return Coded(act, sae.decode(act))


# --- sae_lens, and its loaders of others


@pytest.fixture(scope="module")
def lens() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sae_lens
    return sae_lens


def loaded(lens: Any, converter: Callable[..., Any], folder: str = "sae", **overrides: Any) -> Any:
    """Through a loader of sae_lens, from files that are on this disk."""

    def convert(repo_id: str, folder_name: str, device: str = "cpu", *_: Any, **__: Any) -> Any:
        return converter(repo_id, folder_name, device, False, overrides or None)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lens.SAE.from_pretrained("made/up", folder, device="cpu", converter=convert)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that the loaders of sae_lens take for the hub."""
    from sae_lens.loading import pretrained_sae_loaders as loaders

    def local(repo_id: str, filename: str, subfolder: str | None = None, **_: Any) -> str:
        return str(tmp_path / (subfolder or "") / filename)

    monkeypatch.setattr(loaders, "hf_hub_download", local)
    return tmp_path


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk", "gated"])
@pytest.mark.parametrize("layout", ["sae_lens", "sae_lens_5"])
@pytest.mark.parametrize("shifted", [True, False])
def test_sae_lens_of_both_generations(lens: Any, tmp_path: Path, architecture: Any, layout: str, shifted: bool) -> None:
    folder = write(layout, tmp_path, random_sae(architecture, apply_b_dec_to_input=shifted))
    if layout == "sae_lens_5":
        from sae_lens.loading.pretrained_sae_loaders import sae_lens_disk_loader

        theirs = loaded(lens, lambda *_: (*sae_lens_disk_loader(folder, "cpu"), None))
    else:
        theirs = lens.SAE.load_from_disk(str(folder))
    assert_same(ours(opened(folder), rows()), of_library(theirs, rows()))


def test_a_pickle_becomes_a_folder_that_sae_lens_reads(lens: Any, tmp_path: Path) -> None:
    file = write("qwen_scope", tmp_path / "L0_8", random_sae("topk"))
    converted(str(file), tmp_path / "out")
    assert_same(ours(opened(file), rows()), of_library(lens.SAE.load_from_disk(str(tmp_path / "out")), rows()))


def test_a_scale_that_a_fine_tuning_found_is_in_the_decoder(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    sae = random_sae("standard", apply_b_dec_to_input=True)
    folder = write("sae_lens_5", tmp_path, sae, finetuning_scaling_factor=True)
    plain = ours(opened(folder), rows())
    factor = torch.linspace(0.5, 2, sae.width)
    weights = folder / "sae_weights.safetensors"
    save_file({**load_file(weights), "scaling_factor": factor}, weights)
    found = ours(opened(folder), rows())
    assert torch.equal(found.act, plain.act)
    torch.testing.assert_close(found.out, (plain.act * factor) @ sae.W_dec + sae.b_dec)


def test_gemma_scope(lens: Any, disk: Path) -> None:
    from sae_lens.loading.pretrained_sae_loaders import gemma_2_sae_huggingface_loader as loader

    path = path_of("gemma_scope", 1, sae := random_sae())
    write("gemma_scope", disk / path, sae)
    repo, _, inner = path.partition("/")
    theirs = loaded(
        lens, lambda _r, _f, *rest: loader(repo, f"{repo}/{inner}", *rest), d_in=sae.d_model, d_sae=sae.width
    )
    dictionary = opened(disk / path, "gemma-2-2b-it")
    assert_same(ours(dictionary, rows()), of_library(theirs, rows()))
    said = dictionary.sae.declared
    assert (said.hook, said.model, said.prepend_bos, said.l0) == (theirs.cfg.metadata.hook_name, "gemma-2-2b", True, 59)


@pytest.mark.parametrize("bare", [False, True])
def test_gemma_scope_2(lens: Any, disk: Path, monkeypatch: pytest.MonkeyPatch, bare: bool) -> None:
    from sae_lens.loading import pretrained_sae_loaders as loaders

    path = path_of("gemma_scope_2", 1, sae := random_sae())
    write("gemma_scope_2", disk / path, sae, bare=bare)
    shapes = {"w_enc": [sae.d_model, sae.width], "w_dec": [sae.width, sae.d_model]}
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", lambda *_: shapes)  # asks the network for them
    if bare:
        dictionary = opened(disk / path, "gemma-3-270m-it")
    else:
        theirs = loaded(lens, lambda _r, _f, *rest: loaders.gemma_3_sae_huggingface_loader("made/up", path, *rest))
        dictionary = opened(disk / path, "gemma-3-270m-it")
        assert_same(ours(dictionary, rows()), of_library(theirs, rows()))
    said, h = dictionary.sae.declared, rows()
    assert sae.threshold is not None
    assert (said.hook, said.prepend_bos) == ("blocks.1.hook_resid_post", True) and said.model is not None
    pre = h @ sae.W_enc + sae.b_enc
    act = pre.relu() * (pre > sae.threshold)
    assert_same(ours(dictionary, h), Coded(act, act @ sae.W_dec + sae.b_dec))


def scope_formula(sae: Sae, h: Tensor, scale: float, *, with_norm: bool) -> Coded:
    """As published: the stream is scaled, activation (times decoder norm) is compared with the threshold, and what is
    decoded is scaled back."""
    pre = (h * scale) @ sae.W_enc + sae.b_enc
    size = pre * sae.W_dec.norm(dim=1) if with_norm else pre
    if sae.k is not None:
        kept = size >= size.topk(sae.k).values[:, -1:]
        act = pre.relu() * kept
    else:
        act = pre.relu() * (size > (0 if sae.threshold is None else sae.threshold))
    return Coded(act, (act @ sae.W_dec + sae.b_dec) / scale)


@pytest.mark.parametrize("with_norm", [False, True])
def test_llama_scope(lens: Any, disk: Path, with_norm: bool) -> None:
    from sae_lens.loading.pretrained_sae_loaders import llama_scope_sae_huggingface_loader as loader

    threshold = torch.full((64,), 0.4)
    folder = write(
        "llama_scope", disk / "sae", sae := random_sae(threshold=threshold), sparsity_include_decoder_norm=with_norm
    )
    scale = tiny.D_MODEL**0.5 / 2.5
    found = ours(opened(folder, "Llama-3.1-8B-Instruct"), rows())
    scaled = random_sae(threshold=threshold * scale)  # what the configuration says is of the unscaled stream
    assert_same(found, scope_formula(scaled, rows(), scale, with_norm=with_norm))
    theirs = loaded(lens, lambda _r, _f, *rest: loader("made/up", "sae", *rest), dtype="float32")
    theirs.fold_activation_norm_scaling_factor(scale)
    if with_norm:  # which sae_lens leaves out; published weights have unit norm
        assert not torch.equal(found.act > 0, theirs.encode(rows()) > 0)
    else:
        assert_same(found, of_library(theirs, rows()))
    assert sae.d_model == tiny.D_MODEL


@pytest.mark.parametrize("layout", ["llamascopium", "llamascopium_old"])
@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk"])
@pytest.mark.parametrize("with_norm", [False, True])
def test_llamascopium(tmp_path: Path, layout: str, architecture: Any, with_norm: bool) -> None:
    sae = random_sae(architecture)
    folder = write(layout, tmp_path / "sae", sae, sparsity_include_decoder_norm=with_norm)
    found = ours(opened(folder), rows())
    expected = scope_formula(sae, rows(), tiny.D_MODEL**0.5 / 2.5, with_norm=with_norm)
    if architecture == "topk" and with_norm:  # one function, other units: competing latents are compared by these
        expected = expected._replace(act=expected.act * sae.W_dec.norm(dim=1))
    assert_same(found, expected)


def test_llama_scope_r1_as_sae_lens_reads_it(lens: Any, disk: Path) -> None:
    from sae_lens.loading.pretrained_sae_loaders import llama_scope_r1_distill_sae_huggingface_loader as loader

    folder = write("llamascopium_old", disk / "sae", random_sae(), sparsity_include_decoder_norm=False)
    theirs = loaded(lens, lambda _r, _f, *rest: loader("made/up", "sae", *rest))
    theirs.fold_activation_norm_scaling_factor(tiny.D_MODEL**0.5 / 2.5)
    assert_same(ours(opened(folder), rows()), of_library(theirs, rows()))


def test_a_token_wise_norm_of_llamascopium_is_undone_after_decoding(tmp_path: Path) -> None:
    sae, h = random_sae("jumprelu"), rows()
    folder = write(
        "llamascopium", tmp_path, sae, norm=None, norm_activation="token-wise", sparsity_include_decoder_norm=False
    )
    dictionary = opened(folder)
    act = dictionary.everything.encode(h).act
    scale = tiny.D_MODEL**0.5 / h.norm(dim=1, keepdim=True)
    pre = (h * scale) @ sae.W_enc + sae.b_enc
    assert_same(Coded(act, dictionary.reconstruction(h)[1]), Coded(
        expected := pre.relu() * (pre > sae.threshold), (expected @ sae.W_dec + sae.b_dec) / scale
    ))  # fmt: skip


def test_qwen_scope(lens: Any, disk: Path) -> None:
    from sae_lens.loading.pretrained_sae_loaders import qwen_scope_sae_huggingface_loader as loader

    repo = path_of("qwen_scope", 1, sae := random_sae("topk"))
    file = write("qwen_scope", disk / repo, sae)
    theirs = loaded(
        lens, lambda _r, _f, *rest: loader(repo, f"{repo}/layer1.sae.pt", *rest), d_in=sae.d_model, d_sae=sae.width
    )
    dictionary = opened(file, "Qwen3-1.7B")
    assert_same(ours(dictionary, rows()), of_library(theirs, rows()))
    assert dictionary.sae.k == theirs.cfg.k == 8
    assert dictionary.sae.declared.model == "Qwen3-1.7B-Base"


# --- dictionary_learning

CLASSES = {
    "AutoEncoder": ("standard", "dictionary", {}),
    "AutoEncoderNew": ("standard", "dictionary", {}),
    "GatedAutoEncoder": ("gated", "dictionary", {}),
    "JumpReluAutoEncoder": ("jumprelu", "dictionary", {}),
    "AutoEncoderTopK": ("topk", "trainers.top_k", {"k": 8}),
    "BatchTopKSAE": ("jumprelu", "trainers.batch_top_k", {"k": 8}),
    "MatryoshkaBatchTopKSAE": ("jumprelu", "trainers.matryoshka_batch_top_k", {"k": 8, "group_sizes": [64]}),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_dictionary_learning(tmp_path: Path, kind: str) -> None:
    architecture, name, more = CLASSES[kind]
    folder = write("dictionary_learning", tmp_path, random_sae(architecture), dict_class=kind)  # type: ignore[arg-type]
    theirs = getattr(origins.module("dictionary_learning", name), kind)(tiny.D_MODEL, 64, **more)
    theirs.load_state_dict(torch.load(folder / "ae.pt", weights_only=True))
    assert_same(ours(opened(folder, "up"), rows()), of_library(theirs, rows()))


def test_dictionary_learning_gives_latents_of_an_autoencoder_other_units(tmp_path: Path) -> None:
    """Loaded by the library, decoder rows have norm 1: the same function, and activations times the norm."""
    folder = write("dictionary_learning", tmp_path, sae := random_sae("standard"))
    auto = origins.module("dictionary_learning", "dictionary").AutoEncoder
    theirs = of_library(auto.from_pretrained(folder / "ae.pt"), rows())
    found = ours(opened(folder, "up"), rows())
    torch.testing.assert_close(found.act * sae.W_dec.norm(dim=1), theirs.act, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.out, theirs.out, rtol=1e-4, atol=1e-4)


# --- sparsify


def coder(folder: Path) -> Any:
    return origins.module("sparsify", "sparse_coder").SparseCoder.load_from_disk(folder)


def of_coder(theirs: Any, h: Tensor) -> Coded:
    with torch.no_grad():
        acts, index, _ = theirs.encode(h)
        return Coded(torch.zeros(len(h), theirs.num_latents).scatter(1, index, acts), theirs.decode(acts, index))


def test_sparsify(tmp_path: Path) -> None:
    folder = write("sparsify", tmp_path / "layers.1", random_sae("topk"))
    assert_same(ours(opened(folder), rows()), of_coder(coder(folder), rows()))


def test_sae_lens_reads_sparsify_otherwise(lens: Any, tmp_path: Path) -> None:
    """Why there is a reader for it: the decoder that sae_lens (6.54) gets from the same files is transposed, and b_dec
    is not subtracted. Where this test fails, it reads them right."""
    from sae_lens.loading.pretrained_sae_loaders import sparsify_disk_loader

    folder = write("sparsify", tmp_path / "layers.1", sae := random_sae("topk"))
    config, state = sparsify_disk_loader(folder)
    assert tuple(state["W_dec"].shape) == (sae.d_model, sae.width) != tuple(sae.W_dec.shape)
    assert config["apply_b_dec_to_input"] is False
    shifted = of_coder(coder(folder), rows()).act > 0
    unshifted = (rows() @ sae.W_enc + sae.b_enc).relu()
    assert not torch.equal(shifted, unshifted >= unshifted.topk(8).values[:, -1:])
    (tmp_path / "layers.1.mlp").mkdir()
    (tmp_path / "layers.1.mlp" / "cfg.json").write_text(json.dumps({"d_in": 32, "k": 8, "num_latents": 64}))
    from sae_lens.loading.pretrained_sae_loaders import get_sparsify_config_from_disk

    assert get_sparsify_config_from_disk(tmp_path / "layers.1.mlp")["hook_name"] == "blocks.1.hook_resid_post"
