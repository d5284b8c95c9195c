"""A model is read whole or not at all, what is wrong is named, and whatever changes it makes it another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmark.errors import UsageError
from benchmark.model.subject import load, moved
from tests import tiny

Change = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model, tied as the organism is, and its tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "model"
    made = tiny.model()
    made.config.tie_word_embeddings = True
    made.tie_weights()
    made.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    """The weights after ``change``."""

    def apply(folder: Path) -> None:
        held = load_file(folder / "model.safetensors")
        change(held)
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def fields(file: str, **values: Any) -> Change:
    """A JSON file with other values."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, **values}))

    return apply


def text(file: str, content: str) -> Change:
    return lambda folder: (folder / file).write_text(content)


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def test_a_sound_model_is_loaded_with_its_tied_head(whole: Path) -> None:
    found = load(whole)
    held = load_file(whole / "model.safetensors")
    assert "lm_head.weight" not in held, "or the test means nothing"
    assert torch.equal(found.model.get_output_embeddings().weight, held["model.embed_tokens.weight"])


UP = "model.layers.2.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (tensors(lambda held: held.pop(UP)), rf"they lack {UP}"),
        (tensors(lambda held: held.update({"model.extra": torch.ones(2)})), "they have model.extra, which the model"),
        (tensors(lambda held: held.update({UP: torch.ones(3, 32)})), rf"of another shape is {UP} \(\(3, 32\), the mod"),
        (tensors(lambda held: held[UP][0].fill_(float("nan"))), rf"hold NaN or infinity as torch.float32, in {UP}"),
        (tensors(lambda held: held[UP][0].fill_(float("-inf"))), rf"hold NaN or infinity.*{UP}"),
        (fields("config.json", hidden_size=64), "of another shape is .*embed_tokens"),
        (fields("config.json", hidden_size=30), "multiple of the number of attention heads"),
        (fields("config.json", num_attention_heads=8), "of another shape is .*_proj"),
        (fields("config.json", num_hidden_layers=3), r"they have model.layers.3.* and \d+ more, which"),
        (fields("config.json", num_hidden_layers=5), "they lack model.layers.4"),
        (fields("config.json", model_type="frob"), "frob"),
        (fields("config.json", model_type=None), "config.json names no `model_type`"),
        (fields("config.json", vocab_size=10), "of another shape is .*embed_tokens"),
        (cut, r"model.safetensors is damaged: it holds \d+ bytes.*copy it again"),
        (text("model.safetensors", ""), "model.safetensors is damaged: it holds 0 bytes"),
        (text("model.safetensors", "x" * 999), "model.safetensors is damaged: it holds 999 bytes"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights in safetensors format.*save_pretrained"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "others there: pytorch_model.bin"),
        (
            text("model.safetensors.index.json", '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}'),
            "lacks model-00002-of-00002.safetensors, which model.safetensors.index.json names",
        ),
        (text("config.json", "{"), "configuration, .*config.json, is not JSON"),
        (text("config.json", "[1]"), "config.json, holds a list; expected an object"),
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{"), "config.json, is not JSON"),
        (text("tokenizer.json", "{"), "tokenizer's file, .*tokenizer.json, is not JSON"),
        (text("tokenizer.json", "{}"), "the tokenizer of .* cannot be loaded"),
        (text("tokenizer_config.json", "[]"), "tokenizer_config.json, holds a list"),
        (
            lambda f: [(f / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
            "the tokenizer of .* cannot be loaded",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(copy: Path, change: Change, told: str) -> None:
    change(copy)
    with pytest.raises(UsageError, match=told) as caught:
        load(copy)
    assert str(copy) in str(caught.value)


def test_a_number_that_the_dtype_cannot_hold_is_named(copy: Path) -> None:
    tensors(lambda held: held[UP][0].fill_(1e6))(copy)
    assert load(copy).dtype == torch.float32
    with pytest.raises(UsageError, match=rf"NaN or infinity as torch.float16, in {UP}.*wider --dtype"):
        load(copy, dtype="float16")


@pytest.mark.parametrize("source", ["{0}/nowhere", "./nowhere", "a/b/c", "{0}/file"])
def test_what_is_no_folder_and_can_be_no_hub_id_is_said_at_once(tmp_path: Path, source: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="there is no folder .* with a model"):
        load(source.format(tmp_path))


@pytest.mark.parametrize("device", ["meta", "cuda:99", "mps:3", "xla", "gpu", "", "cpu:5", "cuda:-1", "cpu cpu", "hpu"])
def test_a_device_without_a_use_is_refused_with_those_that_have_one(whole: Path, device: str) -> None:
    with pytest.raises(UsageError, match="there are: auto, cpu"):
        load(whole, device=device)


def test_a_model_that_cannot_be_moved_is_said() -> None:
    class Stuck:
        def to(self, target: Any) -> None:
            raise RuntimeError("no kernel image\nlong trace")

    with pytest.raises(UsageError, match="cannot be moved to cpu: no kernel image; use --device cpu"):
        moved(Stuck(), torch.device("cpu"))


def test_loading_is_silent_and_leaves_the_library_as_it_was(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging as theirs

    theirs.enable_progress_bar()
    before = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    load(copy)
    tensors(lambda held: held.pop(UP))(copy)
    with pytest.raises(UsageError):
        load(copy)
    assert capfd.readouterr() == ("", "")
    assert (theirs.get_verbosity(), theirs.is_progress_bar_enabled()) == before


# --- which model it is


@pytest.mark.parametrize(
    "change",
    [
        tensors(lambda held: held[UP][0, 0].add_(1e-6)),
        fields("config.json", rope_parameters={"rope_theta": 5000.0, "rope_type": "default"}),
        fields("generation_config.json", max_length=7),
        fields("tokenizer_config.json", model_max_length=7),
        fields("tokenizer.json", truncation=None, added=1),
        text("chat_template.jinja", "{{ messages }}"),
        text("vocab.txt", "a"),
    ],
    ids=["weights", "rope", "generation", "tokenizer-config", "tokenizer", "template", "vocabulary"],
)
def test_whatever_changes_a_model_makes_it_another(whole: Path, copy: Path, change: Change) -> None:
    from benchmark.model.identity import identity_of_folder

    assert identity_of_folder(copy) == identity_of_folder(whole) == load(copy).weights_sha
    (copy / "README.md").write_text("told otherwise")
    assert identity_of_folder(copy) == identity_of_folder(whole)
    change(copy)
    assert identity_of_folder(copy) != identity_of_folder(whole)


def test_a_model_in_memory_is_known_by_weights_configuration_and_tokenizer() -> None:
    first = tiny.subject().weights_sha
    assert first == tiny.subject().weights_sha
    others = [tiny.subject(seed=1), tiny.subject(), tiny.subject()]
    others[1].model.config.rope_parameters = {"rope_theta": 5000.0, "rope_type": "default"}
    others[2].tokenizer.add_tokens(["another"])
    assert len({first, *(other.weights_sha for other in others)}) == 4
