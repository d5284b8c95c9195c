"""Where an SAE comes from: a part of the hub, or a name of sae_lens's list, with what the list corrects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.hub import HubSource
from benchmark.sae import releases
from benchmark.sae import source as sources
from benchmark.sae.convert import converted
from benchmark.sae.releases import find
from benchmark.sae.source import asked_of_hub, read_sae
from tests.benchmark.sae.writers import exact_sae, random_sae, write


class Hub:
    """An imitation: what was asked for, and a folder in place of every repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[HubSource, list[str]]] = []

    def __call__(self, source: HubSource, patterns: Sequence[str], **_: Any) -> Path:
        self.asked.append((source, list(patterns)))
        return self.root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    made = Hub(tmp_path / "snapshot")
    monkeypatch.setattr(sources, "snapshot", made)
    return made


def test_a_part_of_the_hub_is_asked_for_by_the_names_of_known_files_alone(hub: Hub) -> None:
    sae = random_sae()
    path = "layer_3/width_16k/average_l0_59"
    write("gemma_scope", hub.root / path, sae)
    found = read_sae(f"hub:google/gemma-scope-2b-pt-res@abc/{path}")
    assert torch.equal(found.W_dec, sae.W_dec)
    assert (found.declared.hook, found.declared.model) == ("blocks.3.hook_resid_post", "gemma-2-2b")
    (asked, patterns), *_ = hub.asked
    assert asked == HubSource("google/gemma-scope-2b-pt-res", "abc", path)
    assert f"{path}/params.npz*" in patterns and all(p.startswith(path) and p[-2:] != "/*" for p in patterns)


def test_a_file_of_the_hub_is_asked_for_as_it_is(hub: Hub) -> None:
    write("qwen_scope", hub.root, random_sae("topk"), layer=3)
    found = read_sae("hub:Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_8@main/layer3.sae.pt")
    assert found.k == 8 and found.declared.hook == "blocks.3.hook_resid_post"
    assert hub.asked[0][1] == ["layer3.sae.pt"]


def test_a_release_corrects_what_its_files_leave_out(hub: Hub) -> None:
    """The files of gpt2-small-res-jb say nothing of centred weights; sae_lens's list does."""
    hook = "blocks.4.hook_resid_pre"
    folder = write("sae_lens_5", hub.root / hook, random_sae("standard"), hook_name=hook)
    found = read_sae("gpt2-small-res-jb/blocks.4.hook_resid_pre@0123")
    assert found.centred and not read_sae(str(folder)).centred
    assert found.declared.model == "gpt2-small" and found.declared.prepend_bos is True
    assert found.declared.l0 is not None and found.declared.explained_variance is not None
    source, patterns = hub.asked[0]
    assert (source.repo, source.revision) == ("jbloom/GPT2-Small-SAEs-Reformatted", "0123")
    assert patterns == [f"blocks.4.hook_resid_pre/{file}" for file in ("cfg.json", "sae_weights.safetensors")]
    asked = asked_of_hub("gpt2-small-res-jb/blocks.4.hook_resid_pre@0123")
    assert asked == (source, patterns) and asked_of_hub(str(folder)) is None


def test_a_factor_of_the_list_is_folded_in_and_must_not_contradict_the_files(hub: Hub) -> None:
    listed = find("llama_scope_lxr_8x", "l1r_8x")
    assert listed.factor is not None and listed.l0 == 50
    norm = 32**0.5 / listed.factor
    write("llama_scope", hub.root / listed.path, sae := random_sae(), norm=norm)
    found = read_sae("llama_scope_lxr_8x/l1r_8x")
    assert torch.allclose(found.W_enc, sae.W_enc * listed.factor)
    write("llama_scope", hub.root / listed.path, sae, norm=2 * norm)
    with pytest.raises(UsageError, match="the registry with"):
        read_sae("llama_scope_lxr_8x/l1r_8x")


def test_a_norm_that_is_not_folded_in_is_folded_where_the_list_has_the_factor(hub: Hub, tmp_path: Path) -> None:
    from benchmark.sae.layouts.detect import read
    from benchmark.sae.layouts.place import Place

    folder = write("sae_lens", tmp_path, sae := random_sae(), normalize_activations="expected_average_only_in")
    with pytest.raises(UsageError, match="not folded in"):
        read_sae(str(folder))
    found = read(Place(folder, "made up", factor=0.5))
    assert torch.allclose(found.W_enc, sae.W_enc / 2) and torch.allclose(found.b_dec, sae.b_dec * 2)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gpt2-small-res-jb/blocks.40.hook_resid_pre", "has no SAE 'blocks.40.hook_resid_pre'"),
        ("gpt2-small-res-jc/blocks.4.hook_resid_pre", "gpt2-small-res-jb"),
        ("gemma-scope-2b-pt-transcoders/layer_0/width_16k/average_l0_76", "gemma_2_transcoder, which is no residual"),
        ("/no/such/folder", "no folder or file"),
        ("hub:nobody", "names no part of the hub|not on this machine"),
    ],
)
def test_a_name_that_is_none_says_what_there_is(name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_sae(name)


def test_a_release_is_cut_out_of_the_list_as_the_whole_list_has_it() -> None:
    import yaml

    whole = yaml.load(releases._list().read_text("utf-8"), yaml.CSafeLoader)
    for name in [*list(whole)[::40], "gpt2-small-res-jb", "llama_scope_r1_distill"]:
        assert releases._entry(name) == whole[name], name
    assert set(releases._LAYOUTS.values()) <= set(sources.LAYOUTS)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk", "gated"])
def test_what_is_converted_is_read_as_the_same_by_both(architecture: Any, tmp_path: Path) -> None:
    sae = random_sae(architecture, apply_b_dec_to_input=True, centred=True, normalize="layer_norm")
    folder = write("sae_lens", tmp_path / "in", sae, metadata={
        "model_from_pretrained_kwargs": {"center_writing_weights": True}, "l0": 12.0, "model_name": "tiny",
    })  # fmt: skip
    said = converted(str(folder), tmp_path / "out")
    assert architecture in said and "tiny" in said
    before, after = read_sae(str(folder)), read_sae(str(tmp_path / "out"))
    assert before.declared == after.declared
    for name, value in vars(before).items():
        other = getattr(after, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
    with pytest.raises(UsageError, match="is there already"):
        converted(str(folder), tmp_path / "out")


def test_the_exact_sae_of_the_tests_is_what_it_says(tmp_path: Path) -> None:
    sae = exact_sae()
    h = torch.randn(9, sae.d_model)
    torch.testing.assert_close((h @ sae.W_enc).relu() @ sae.W_dec, h)
