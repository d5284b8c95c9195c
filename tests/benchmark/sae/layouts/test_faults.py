"""What an SAE's files say otherwise than its tensors, in every layout: refused, and named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.sae.layouts.normal import Sae
from benchmark.sae.source import read_sae
from tests.benchmark.sae.writers import path_of, random_sae, write

LAYOUTS = {
    "sae_lens": "jumprelu",
    "sae_lens_5": "topk",
    "gemma_scope": "jumprelu",
    "gemma_scope_2": "jumprelu",
    "llama_scope": "jumprelu",
    "llamascopium": "topk",
    "llamascopium_old": "jumprelu",
    "dictionary_learning": "topk",
    "sparsify": "topk",
    "qwen_scope": "topk",
}
Tensors = dict[str, Tensor]


def written(layout: str, root: Path, **meta: Any) -> Path:
    """An SAE under the name that its layout publishes it with: folder, or file."""
    sae = random_sae(LAYOUTS[layout])  # type: ignore[arg-type]
    return write(layout, root / path_of(layout, 1, sae), sae, **meta)


def weights(path: Path) -> Path:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.suffix in (".safetensors", ".npz", ".pt")]
    return files[0]


def change_tensors(path: Path, change: Callable[[Tensors], Any]) -> None:
    file = weights(path)
    if file.suffix == ".npz":
        held: Tensors = {name: torch.from_numpy(array) for name, array in np.load(file).items()}
        change(held)
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in held.items()}
        np.savez(file, **arrays)
    elif file.suffix == ".pt":
        held = torch.load(file, weights_only=True)
        change(held)
        torch.save(held, file)
    else:
        held = load_file(file)
        change(held)
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, file)


def names(path: Path) -> list[str]:
    found: list[str] = []
    change_tensors(path, lambda held: found.extend(held))
    return found


def refused(path: Path | str) -> str:
    with pytest.raises(UsageError) as caught:
        read_sae(str(path))
    return str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_counts(layout: str, tmp_path: Path) -> None:
    """One that is missing, one too many, one with NaN at its end: each is named."""
    sound = written(layout, tmp_path / "sound")
    assert isinstance(read_sae(str(sound)), Sae)
    unused = {"scaling_factor"} | {n for n in names(sound) if n.startswith("dataset_average")}
    for number, name in enumerate(n for n in names(sound) if n not in unused):
        counts = (
            name in ("k", "threshold") and layout == "dictionary_learning"
        )  # k is said twice, and topk needs no more
        lacking, spoilt = (written(layout, tmp_path / f"{what}{number}") for what in ("lacking", "spoilt"))
        if not counts:
            change_tensors(lacking, lambda held, name=name: held.pop(name))
            assert name in refused(lacking)
            change_tensors(spoilt, lambda held, name=name: held[name].view(-1)[-1:].fill_(float("nan")))
            assert "NaN" in refused(spoilt)
    more = written(layout, tmp_path / "more")
    change_tensors(more, lambda held: held.update(stranger=torch.ones(64)))
    assert "stranger" in refused(more)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_transposed_encoder_is_named(layout: str, tmp_path: Path) -> None:
    path = written(layout, tmp_path)
    name = next(n for n in names(path) if n.lower() in ("w_enc", "w_e", "encoder.weight"))
    change_tensors(path, lambda held: held.update({name: held[name].T.contiguous()}))
    assert "W_enc" in refused(path) and "transposed" in refused(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_is_cut_short_or_none_is_damaged(layout: str, tmp_path: Path) -> None:
    file = weights(path := written(layout, tmp_path))
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a file of tensors"):
        file.write_bytes(content)
        assert str(file) in (message := refused(path)) and "damaged" in message


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    path, ran = written("qwen_scope", tmp_path), tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    torch.save({"W_enc": Bomb()}, path)
    assert "damaged" in refused(path) and not ran.exists()
    torch.load(path, weights_only=False)
    assert ran.exists(), "it would have been"


@pytest.mark.parametrize(
    ("layout", "meta", "told"),
    [
        ("sae_lens", {"d_sae": 63}, "d_sae is 63, but W_dec"),
        ("sae_lens", {"architecture": "standard"}, "also holds threshold: an SAE of the architecture 'standard'"),
        ("sae_lens", {"architecture": "gated"}, "lacks b_gate"),
        ("sae_lens", {"architecture": None}, "architecture is None, and must be one of"),
        ("sae_lens", {"metadata": {"prepend_bos": "yes"}}, "prepend_bos is 'yes'"),
        ("sae_lens_5", {"activation_fn_kwargs": {}}, "k is None"),
        ("sae_lens_5", {"activation_fn_kwargs": None}, "k is None"),
        ("sae_lens_5", {"activation_fn_kwargs": {"k": 65}}, "k is 65, of 64 latents"),
        ("sae_lens_5", {"activation_fn_str": "tanh-relu"}, "activation_fn is 'tanh-relu'"),
        ("sae_lens_5", {"normalize_activations": True}, "norm is not folded in"),
        ("gemma_scope_2", {"affine_connection": True}, "transcoder"),
        ("gemma_scope_2", {"hf_hook_point_out": "model.layers.1.mlp.output"}, "transcoder"),
        ("gemma_scope_2", {"architecture": "topk"}, "architecture is 'topk'"),
        ("llama_scope", {"act_fn": "topk"}, "act_fn is 'topk'"),
        ("llama_scope", {"dataset_average_activation_norm": None}, "dataset_average_activation_norm is None"),
        ("llama_scope", {"jump_relu_threshold": None}, "jump_relu_threshold is None"),
        ("llama_scope", {"hook_point_out": "blocks.1.hook_mlp_out"}, "transcoder"),
        ("llamascopium", {"sae_type": "clt"}, "sae_type is 'clt'"),
        ("llamascopium", {"norm_activation": "batch-wise"}, "norm_activation is 'batch-wise'"),
        ("llamascopium", {"norm": None}, "neither .* says the average"),
        ("llamascopium", {"expansion_factor": 4}, "expansion_factor is 4"),
        ("llamascopium", {"top_k": None}, "top_k is None"),
        ("llamascopium", {"act_fn": "batchtopk"}, "act_fn is 'batchtopk'"),
        ("dictionary_learning", {"k": 9}, "k is 9, and must be 8"),
        ("dictionary_learning", {"dict_class": "BatchTopKSAE"}, "threshold is -1.0, .* never estimated"),
        ("sparsify", {"activation": "groupmax"}, "activation is 'groupmax'"),
        ("sparsify", {"transcode": True}, "transcoder"),
        ("sparsify", {"signed": True}, "signed"),
        ("sparsify", {"k": None}, "k is None"),
        ("sparsify", {"num_latents": 128}, "num_latents is 128"),
    ],
)
def test_a_configuration_that_its_tensors_contradict(layout: str, meta: Any, told: str, tmp_path: Path) -> None:
    import re

    message = refused(written(layout, tmp_path, **meta))
    assert re.search(told, message), message


def test_a_scale_that_the_configuration_does_not_use(tmp_path: Path) -> None:
    path = written("sae_lens_5", tmp_path)
    change_tensors(path, lambda held: held["scaling_factor"].mul_(1.5))
    assert "scaling_factor" in refused(path) and "finetuning_scaling_factor" in refused(path)


def test_metadata_that_is_null_declares_nothing(tmp_path: Path) -> None:
    path = written("sae_lens", tmp_path)
    content = json.loads((path / "cfg.json").read_text())
    (path / "cfg.json").write_text(json.dumps({**content, "metadata": None}))
    assert read_sae(str(path)).declared.hook is None


@pytest.mark.parametrize(
    ("layout", "name", "hook"),
    [
        ("sparsify", "layers.1.mlp", "blocks.1.mlp"),
        ("sparsify", "embed_tokens", "embed_tokens"),
        ("gemma_scope", "gemma-scope-2b-pt-mlp/layer_1/width_16k/average_l0_9", "blocks.1.hook_mlp_out"),
        ("gemma_scope", "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "hook_embed"),
    ],
)
def test_what_is_not_the_residual_stream_is_named_so(layout: str, name: str, hook: str, tmp_path: Path) -> None:
    """And such a hook fits no site."""
    path = write(layout, tmp_path / name, random_sae(LAYOUTS[layout]))  # type: ignore[arg-type]
    assert read_sae(str(path)).declared.hook == hook


def test_k_is_in_the_name_or_asked_for(tmp_path: Path) -> None:
    sae = random_sae("topk")
    assert read_sae(str(write("qwen_scope", tmp_path / "L0_8", sae))).k == 8
    assert "L0_<k>" in refused(write("qwen_scope", tmp_path / "mine", sae))


# --- which layout it is


def test_any_file_of_a_folder_names_it(tmp_path: Path) -> None:
    for layout in ("sae_lens", "llama_scope", "gemma_scope"):
        path = written(layout, tmp_path / layout)
        assert torch.equal(read_sae(str(weights(path))).W_dec, read_sae(str(path)).W_dec)


def test_what_is_found_and_what_is_known_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    message = refused(tmp_path)
    assert "it holds notes.txt" in message
    for name in ("sae_lens", "gemma_scope_2", "ae.pt", "layer<N>.sae.pt", "hyperparams.json"):
        assert name in message
    inner = write("gemma_scope", tmp_path / "layer_1", random_sae())
    assert f"which are SAEs: {inner}" in refused(tmp_path)


def test_two_layouts_in_one_folder_are_too_many(tmp_path: Path) -> None:
    write("gemma_scope", tmp_path, random_sae())
    write("sparsify", tmp_path, random_sae("topk"))
    assert "several layouts" in (message := refused(tmp_path)) and "gemma_scope" in message and "sparsify" in message


# --- mutations

VALUES = (None, True, False, 0, -1, 1, 7, 0.5, 1e400, "", "topk", "none", [], [1], {}, {"in": 0}, {"k": "8"}, "\ud800")


def mutations(content: Any, seed: int) -> Iterator[Any]:
    """A configuration with one value exchanged, or gone, at any depth."""
    drawn = random.Random(seed)
    for name in list(content):
        yield {k: v for k, v in content.items() if k != name}
        yield {**content, name: drawn.choice(VALUES)}
        if isinstance(content[name], dict):
            yield from ({**content, name: inner} for inner in mutations(content[name], seed))


@pytest.mark.parametrize("layout", [n for n in LAYOUTS if n not in ("gemma_scope", "qwen_scope")])
def test_a_mutated_configuration_is_read_or_refused(layout: str, tmp_path: Path) -> None:
    path = written(layout, tmp_path)
    (file,) = [p for p in path.iterdir() if p.suffix == ".json"]
    content, told = json.loads(file.read_text()), 0
    for seed in range(6):
        for mutated in mutations(content, seed):
            file.write_text(json.dumps(mutated))
            try:
                assert isinstance(read_sae(str(path)), Sae)
            except UsageError as error:
                told += 1
                assert str(path) in str(error)
    assert told > 5
