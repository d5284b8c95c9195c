"""Our few columns of an SAE are sae_lens's own SAE, for every architecture and input scaling that is supported."""

from __future__ import annotations

import json
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sites import Site
from tests import tiny

ARCHITECTURES = ("standard", "jumprelu", "gated", "topk")
SCALINGS = ("none", "layer_norm", "constant_norm_rescale")
SITE = Site.parse(tiny.SITE)


@pytest.fixture(scope="module")
def sae_class() -> Any:
    """sae_lens takes seconds to import; only what compares with it asks for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sae_lens import SAE
    return SAE


def loaded(sae_class: Any, folder: str | Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the model's weights have to be centred
        return sae_class.load_from_disk(str(folder)).requires_grad_(False)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny.subject()


def stream(rows: int = 40) -> Tensor:
    """Activations with a mean, an offset and norms that differ."""
    generator = torch.Generator().manual_seed(3)
    h = torch.randn(rows, tiny.D_MODEL, generator=generator)
    return h * torch.linspace(0.5, 3, rows)[:, None] + 0.7


def centred(on: bool) -> dict[str, Any]:
    return {"metadata": {"model_from_pretrained_kwargs": {"center_writing_weights": True}}} if on else {}


def gap(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).detach().abs().max() / expected.detach().abs().max().clamp(min=1e-6))


SWITCHES = ((True, False), (False, True), (True, True), (False, False))
"""Shifted by b_dec, trained on centred weights."""
SETTINGS = [
    (architecture, scaling, *SWITCHES[(a + s) % 4])
    for (a, architecture), (s, scaling) in product(enumerate(ARCHITECTURES), enumerate(SCALINGS))
]
"""Every pair of two settings; all four together are steps of a pipeline that do not know of each other."""


@pytest.fixture(params=SETTINGS, ids=lambda s: f"{s[0]}-{s[1]}-{'b_dec' if s[2] else 'plain'}-{'centred' * s[3]}")
def pair(request: Any, sae_class: Any, subject: Subject, tmp_path: Path) -> tuple[Dictionary, Any, Any]:
    """Our dictionary, the sae_lens SAE of the same folder, and what that SAE is to be given for a stream."""
    architecture, normalize, shifted, on_centred = request.param
    folder = tiny.sae_folder(
        tmp_path, architecture, apply_b_dec_to_input=shifted, normalize_activations=normalize, **centred(on_centred)
    )
    sae = loaded(sae_class, folder)
    return open_dictionary(subject, SITE, folder), sae, lambda h: h - h.mean(-1, keepdim=True) if on_centred else h


def test_activations_and_gradients_are_those_of_sae_lens(pair: tuple[Dictionary, Any, Any]) -> None:
    dictionary, sae, given = pair
    ours, theirs = (stream().requires_grad_() for _ in range(2))
    found, expected = dictionary.everything.encode(ours), sae.encode(given(theirs))
    assert 0.02 < float((expected > 0).float().mean()) < 0.9
    assert torch.equal(found.act > 0, expected > 0)
    assert gap(found.act, expected) < 1e-5
    weights = torch.linspace(-1, 1, expected.numel()).view(expected.shape)
    slopes = [torch.autograd.grad((act * weights).sum(), at)[0] for act, at in ((found.act, ours), (expected, theirs))]
    assert gap(*slopes) < 1e-4


def test_a_latent_is_active_exactly_above_its_threshold(pair: tuple[Dictionary, Any, Any]) -> None:
    dictionary, _, _ = pair
    for features in (dictionary.everything, dictionary.features([5, 40, 3])):
        found = features.encode(stream())
        assert torch.equal(found.pre > found.threshold, found.act > 0)
        assert found.pre.shape == found.act.shape == found.threshold.shape
        assert bool((found.threshold >= 0).all())


def test_pre_activations_move_where_activations_are_flat(pair: tuple[Dictionary, Any, Any]) -> None:
    dictionary, _, _ = pair
    at = stream().requires_grad_()
    found = dictionary.everything.encode(at)
    (slope,) = torch.autograd.grad((found.pre * (found.act == 0)).sum(), at)
    assert bool(slope.isfinite().all()) and bool((slope.norm(dim=1) > 0).all())


def test_any_subset_agrees_with_all_latents(pair: tuple[Dictionary, Any, Any]) -> None:
    dictionary, _, _ = pair
    every = dictionary.everything.encode(stream())
    chosen = [60, 2, 33, 0]
    for features in (dictionary.features(chosen), dictionary.everything.subset(chosen)):
        assert features.latents == tuple(chosen) and len(features) == 4
        found = features.encode(stream())
        for name in ("pre", "act", "threshold"):
            assert gap(getattr(found, name), getattr(every, name)[:, chosen]) < 1e-5, name
        change = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
        whole = torch.zeros(40, len(dictionary.everything)).index_copy(1, torch.tensor(chosen), change)
        assert (
            gap(features.decode_change(stream(), change), dictionary.everything.decode_change(stream(), whole)) < 1e-5
        )
    twice = dictionary.features([60, 2, 33, 0]).subset([2, 0])
    assert twice.latents == (33, 60) and gap(twice.encode(stream()).act, every.act[:, [33, 60]]) < 1e-5


def test_a_change_of_activations_is_decoded_as_sae_lens_does(pair: tuple[Dictionary, Any, Any]) -> None:
    dictionary, sae, given = pair
    h = given(stream())
    change = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))

    def decoded(extra: Tensor) -> Tensor:  # sae_lens remembers the last encode and forgets it in decode
        return sae.decode(sae.encode(h) + extra)

    expected = decoded(change) - decoded(torch.zeros_like(change))
    assert gap(dictionary.everything.decode_change(stream(), change), expected) < 1e-5


@pytest.mark.parametrize("few", [3, 30])
def test_slices_of_the_file_are_the_columns_of_the_whole(few: int, subject: Subject, tmp_path: Path) -> None:
    folder = tiny.sae_folder(tmp_path, "gated")
    whole = load_file(Path(folder) / "sae_weights.safetensors")
    latents = list(reversed(range(20, 20 + few)))
    features = open_dictionary(subject, SITE, folder).features(latents)
    assert torch.equal(features.encoder, whole["W_enc"][:, latents])
    assert torch.equal(features.decoder, whole["W_dec"][latents])
    assert features.magnitude is not None
    assert torch.equal(features.magnitude[0], whole["r_mag"][latents].exp())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_dtype_are_computed_with_in_single_precision(
    architecture: str, dtype: torch.dtype, subject: Subject, tmp_path: Path
) -> None:
    folder = tiny.sae_folder(tmp_path, architecture)
    file = tmp_path / "sae_weights.safetensors"
    stored = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    save_file(stored, file)
    features = open_dictionary(subject, SITE, folder).features([1, 2])
    assert torch.equal(features.encoder, stored["W_enc"][:, [1, 2]].float())
    for h in (stream(), stream().to(dtype)):
        codes = features.encode(h)
        assert codes.act.dtype == codes.pre.dtype == features.decode_change(h, codes.act).dtype == torch.float32


def test_the_threshold_of_a_competing_latent_is_what_it_has_to_beat(
    sae_class: Any, subject: Subject, tmp_path: Path
) -> None:
    """The k-th largest pre-activation of the others, and 0."""
    folder = tiny.sae_folder(tmp_path, "topk", k=32)
    sae = loaded(sae_class, folder)
    _, cache = sae.run_with_cache(stream())
    pre = cache["hook_sae_acts_pre"]
    others = pre[:, None, :].expand(-1, 64, -1).masked_fill(torch.eye(64).bool(), -torch.inf)
    expected = others.topk(32).values[..., -1].clamp(min=0)
    assert bool((expected == 0).any()) and bool((expected > 0).any())
    found = open_dictionary(subject, SITE, folder).everything.encode(stream())
    assert gap(found.pre, pre) < 1e-5 and gap(found.threshold, expected) < 1e-5


def test_as_many_winners_as_latents_is_no_competition(subject: Subject, tmp_path: Path) -> None:
    free = open_dictionary(subject, SITE, tiny.sae_folder(tmp_path / "topk", "topk", k=64)).everything
    plain = open_dictionary(subject, SITE, tiny.sae_folder(tmp_path / "standard", "standard")).everything
    assert gap(free.encode(stream()).act, plain.encode(stream()).act) < 1e-6


# --- an SAE that does not fit, and one that is not there


def refused(subject: Subject, source: str | None, site: Site = SITE) -> str:
    with pytest.raises(UsageError) as caught:
        open_dictionary(subject, site, source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("standard", {"d_in": 24}, "a stream of width 24, the model's width is 32"),
        ("standard", {"metadata": {"hook_name": "blocks.3.hook_resid_pre"}}, "trained at blocks.3.hook_resid_pre"),
        ("standard", {"metadata": {"hook_name": "blocks.1.hook_mlp_out"}}, "trained at blocks.1.hook_mlp_out"),
        ("standard", {"metadata": {"model_name": "gpt2-small"}}, "trained on 'gpt2-small', this model is 'tiny'"),
        ("transcoder", {}, "'transcoder', and must be one of standard, jumprelu, topk, gated"),
        ("standard", {"normalize_activations": "expected_average_only_in"}, "norm is not folded in"),
        ("standard", {"normalize_activations": "covariance_whitening"}, "or a factor that is folded in"),
        ("standard", {"reshape_activations": "hook_z"}, "attention heads"),
        ("standard", {"metadata": {"prepend_bos": False}}, "did not begin with BOS, and these prompts do"),
        ("standard", {"metadata": {"hook_head_index": 3}}, "one attention head"),
        ("standard", {"metadata": {"hook_name_out": "blocks.1.hook_mlp_out"}}, "a transcoder"),
    ],
)
def test_an_sae_that_does_not_fit_is_refused(
    architecture: str, config: dict[str, Any], message: str, subject: Subject, tmp_path: Path
) -> None:
    assert message in refused(subject, tiny.sae_folder(tmp_path, architecture, **config))


def test_all_that_does_not_fit_is_in_one_message(subject: Subject, tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"metadata": {"hook_name": "blocks.0.hook_resid_pre", "model_name": "other"}}
    message = refused(subject, tiny.sae_folder(tmp_path, d_in=16, **wrong))
    for part in ("width 16", "width is 32", "blocks.0.hook_resid_pre", "'other'"):
        assert part in message


@pytest.mark.parametrize(
    "metadata",
    [
        {"hook_name": "blocks.2.hook_resid_pre"},
        {"model_name": "somebody/TINY"},
        {"model_name": None, "hook_name": None},
    ],
)
def test_the_same_place_and_model_under_another_name_fits(
    metadata: dict[str, Any], subject: Subject, tmp_path: Path
) -> None:
    assert open_dictionary(subject, SITE, tiny.sae_folder(tmp_path, metadata=metadata)).width == 64


def test_gpt2_small_and_gpt2_are_one_model(tmp_path: Path) -> None:
    gpt2 = Subject(tiny.model("gpt2"), tiny.tokenizer(), "openai-community/gpt2")
    assert open_dictionary(gpt2, SITE, tiny.sae_folder(tmp_path, metadata={"model_name": "gpt2-small"})).width == 64


def test_a_folder_written_before_sae_lens_6_is_understood_and_checked(
    sae_class: Any, subject: Subject, tmp_path: Path
) -> None:
    """Its cfg.json is flat, has other names and may leave the architecture out."""
    folder = Path(tiny.sae_folder(tmp_path, "standard"))
    new = json.loads((folder / "cfg.json").read_text())
    old: dict[str, Any] = {
        "d_in": new["d_in"],
        "d_sae": new["d_sae"],
        "dtype": "float32",
        "hook_point": tiny.SITE,
        "model_name": "tiny",
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    (folder / "cfg.json").write_text(json.dumps(old))
    dictionary = open_dictionary(subject, SITE, str(folder))
    h = stream()
    expected = loaded(sae_class, folder).encode(h - h.mean(-1, keepdim=True))
    assert gap(dictionary.everything.encode(h).act, expected) < 1e-5
    (folder / "cfg.json").write_text(json.dumps(old | {"hook_point": "blocks.0.hook_resid_pre"}))
    assert "trained at blocks.0.hook_resid_pre" in refused(subject, str(folder))


@pytest.mark.parametrize("missing", ["cfg.json", "sae_weights.safetensors"])
def test_a_folder_without_a_file_says_what_is_there_and_what_could_be(
    missing: str, subject: Subject, tmp_path: Path
) -> None:
    folder = tiny.sae_folder(tmp_path)
    (tmp_path / missing).unlink()
    (left,) = tmp_path.iterdir()
    message = refused(subject, folder)
    assert f"it holds {left.name};" in message and "sae_lens (cfg.json + sae_weights.safetensors)" in message


def test_a_configuration_that_is_no_json_is_named(subject: Subject, tmp_path: Path) -> None:
    folder = tiny.sae_folder(tmp_path)
    (tmp_path / "cfg.json").write_text("{")
    assert "cfg.json" in refused(subject, folder)


def test_a_site_without_an_sae_says_where_there_are_some(subject: Subject, tmp_path: Path) -> None:
    folder = tiny.sae_folder(tmp_path)
    known = tiny.subject(saes={tiny.SITE: folder})
    assert open_dictionary(known, SITE).source == folder
    assert tiny.SITE in refused(known, None, Site(0))
    assert "none" in refused(subject, None)
    assert "outside tiny" in refused(known, None, Site(9))


@pytest.mark.parametrize(
    ("latents", "message"),
    [([3, 64], r"\[64\] do not exist"), ([-1], r"\[-1\] do not exist"), ([3, 4, 3], "given twice")],
)
def test_latents_that_cannot_be_are_refused(latents: list[int], message: str, subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message + ".*latents 0 to 63"):
        open_dictionary(subject, SITE, tiny.sae_folder(tmp_path)).features(latents)


def test_what_is_neither_a_folder_nor_registered_is_refused_without_a_network(subject: Subject) -> None:
    assert "release/sae_id" in refused(subject, "nowhere")
    assert "release/sae_id" in refused(subject, "no-such-release/no-such-id")


def test_a_damaged_or_incomplete_file_is_named(tmp_path: Path) -> None:
    folder = Path(tiny.sae_folder(tmp_path / "sae"))
    made, site, weights = tiny.subject(), Site.parse(tiny.SITE), folder / "sae_weights.safetensors"
    tensors = load_file(weights)
    del tensors["threshold"]
    save_file(tensors, weights)
    with pytest.raises(UsageError, match="lacks threshold; its tensors are W_dec, W_enc, b_dec, b_enc; copy"):
        open_dictionary(made, site, str(folder)).features([1])
    weights.write_bytes(b"not safetensors")
    with pytest.raises(UsageError, match="damaged"):
        open_dictionary(made, site, str(folder)).features([1])


def test_no_latents_are_no_feature_set(tmp_path: Path) -> None:
    opened = open_dictionary(tiny.subject(), Site.parse(tiny.SITE), tiny.sae_folder(tmp_path / "sae"))
    with pytest.raises(UsageError, match="no latent is given"):
        opened.features([])


# --- damaged folders


def tensors_of(folder: Path, change: Any) -> None:
    held = load_file(folder / "sae_weights.safetensors")
    change(held)
    save_file(held, folder / "sae_weights.safetensors")


def config_of(folder: Path, **values: Any) -> None:
    content = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("lacking", [0, 1, 2, 3])
def test_a_tensor_that_is_missing_is_named(subject: Subject, tmp_path: Path, architecture: str, lacking: int) -> None:
    folder = Path(tiny.sae_folder(tmp_path / "sae", architecture))
    assert open_dictionary(subject, SITE, str(folder)).features([1]).latents == (1,)
    name = sorted(load_file(folder / "sae_weights.safetensors"))[lacking]
    tensors_of(folder, lambda held: held.pop(name))
    with pytest.raises(UsageError, match=f"{folder}.* lacks {name}; its tensors are"):
        open_dictionary(subject, SITE, str(folder))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: config_of(f, d_sae=63), "d_sae is 63, but W_dec in sae_weights.safetensors has 64"),
        (lambda f: config_of(f, d_sae=None), "d_sae is None, but W_dec in .* has 64"),
        (lambda f: config_of(f, d_in=16), "d_in is 16, but W_dec in .* has 32"),
        (lambda f: tensors_of(f, lambda held: held.update(b_dec=torch.ones(31))), r"b_dec is \(31,\)"),
        (lambda f: (f / "sae_weights.safetensors").write_bytes(b""), "sae_weights.safetensors is damaged: it holds 0"),
        (
            lambda f: (f / "sae_weights.safetensors").write_bytes((f / "sae_weights.safetensors").read_bytes()[:-9]),
            r"sae_weights.safetensors is damaged: it holds \d+ bytes",
        ),
        (lambda f: (f / "cfg.json").write_text("{"), "cfg.json is not JSON"),
        (lambda f: (f / "cfg.json").write_text("[]"), "cfg.json holds a list"),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(subject: Subject, tmp_path: Path, change: Any, told: str) -> None:
    folder = Path(tiny.sae_folder(tmp_path / "sae"))
    change(folder)
    with pytest.raises(UsageError, match=told) as caught:
        open_dictionary(subject, SITE, str(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec", "threshold"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_named_whatever_latent_it_is_of(
    subject: Subject, tmp_path: Path, name: str, value: float
) -> None:
    folder = Path(tiny.sae_folder(tmp_path / "sae"))
    tensors_of(folder, lambda held: held[name].view(-1)[-1].fill_(value))
    with pytest.raises(UsageError, match=f"holds NaN or infinity in {name};"):
        open_dictionary(subject, SITE, str(folder))


def test_decoder_norms_that_are_not_folded_in_are(sae_class: Any, subject: Subject, tmp_path: Path) -> None:
    folder = Path(tiny.sae_folder(tmp_path, "topk", rescale_acts_by_decoder_norm=True))
    tensors_of(folder, lambda held: held["W_dec"].mul_(torch.linspace(0.2, 3, 64)[:, None]))
    sae, ours = loaded(sae_class, folder), open_dictionary(subject, SITE, str(folder))
    acts = sae.encode(stream())
    assert gap(ours.everything.encode(stream()).act, acts) < 1e-5
    assert gap(ours.decode(ours.everything.encode(stream()).act), sae.decode(acts)) < 1e-5
    config_of(folder, rescale_acts_by_decoder_norm=False)
    assert gap(open_dictionary(subject, SITE, str(folder)).everything.encode(stream()).act, acts) > 0.1
