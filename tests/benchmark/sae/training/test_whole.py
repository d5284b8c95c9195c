"""A training goes on where it was stopped, to the same bytes; it is refused in the folder of another."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import open_dictionary
from benchmark.sae.training import activations, whole
from benchmark.sae.training.fit import Fit
from benchmark.sae.training.settings import Collection
from benchmark.sae.training.whole import check, train
from benchmark.sites import Site
from tests import tiny
from tests.benchmark.sae.training.conftest import COLLECTION, SETTINGS, SITE, MakeOrder

pytestmark = pytest.mark.filterwarnings("ignore")  # those of sae_lens, while it is imported
OTHER = Site.parse("blocks.3.hook_resid_pre")


def weights(folder: Path) -> bytes:
    return (folder / "sae_weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(order: MakeOrder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two SAEs of one pass over the text."""
    folder = tmp_path_factory.mktemp("whole")
    train(order(folder, [SITE, OTHER]))
    return folder


def test_a_resumed_training_ends_as_an_uninterrupted_one(
    order: MakeOrder, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture, advance = activations._captured, Fit._advance
    captured: list[int] = []

    def stop_while_collecting(*arguments, **options):
        captured.append(1)
        signal.raise_signal(signal.SIGINT)
        return capture(*arguments, **options)

    def stop_in_the_second(self: Fit) -> None:
        advance(self)
        if self.sae.cfg.metadata.hook_name == str(OTHER) and self.step == 17:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(activations, "_captured", stop_while_collecting)
    with pytest.raises(KeyboardInterrupt):
        train(order(tmp_path, [SITE, OTHER]))
    assert captured == [1] and [f.name for f in (tmp_path / "training/activations").iterdir()] == ["00000.safetensors"]
    monkeypatch.setattr(activations, "_captured", capture)
    monkeypatch.setattr(Fit, "_advance", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(order(tmp_path, [SITE, OTHER]))
    assert (tmp_path / str(SITE) / "training.json").exists() and not (tmp_path / str(OTHER)).exists()
    monkeypatch.setattr(Fit, "_advance", advance)
    steps: list[int] = []
    train(order(tmp_path, [SITE, OTHER]), lambda what, done, total: steps.append(done) if "steps" in what else None)
    assert steps == list(range(18, SETTINGS.steps + 1)), "what was done is not done again"
    for site in (SITE, OTHER):
        assert weights(tmp_path / str(site)) == weights(uninterrupted / str(site))
        assert (tmp_path / str(site) / "cfg.json").read_text() == (uninterrupted / str(site) / "cfg.json").read_text()
    assert signal.getsignal(signal.SIGINT) is before


def test_another_seed_is_another_sae(order: MakeOrder, uninterrupted: Path, tmp_path: Path) -> None:
    train(order(tmp_path, settings=replace(SETTINGS, seed=1)))
    assert weights(tmp_path) != weights(uninterrupted / str(SITE))


def test_a_finished_training_is_told_again_without_work(
    order: MakeOrder, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments, **options):
        raise AssertionError("worked again")

    monkeypatch.setattr(whole, "collect", never)
    told = train(order(uninterrupted, [SITE, OTHER]))
    assert told[SITE] == json.loads((uninterrupted / str(SITE) / "training.json").read_text())
    assert not (uninterrupted / "training/activations").exists(), "activations are not left behind"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"settings": replace(SETTINGS, lr=1e-3)}, "lr: 0.004 there, 0.001 asked for"),
        ({"collection": replace(COLLECTION, context=12)}, "collection context: 16 there, 12 asked for"),
        ({"text": "model"}, "text: "),
        ({"sites": [SITE]}, f"saes {OTHER}: "),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(
    order: MakeOrder, uninterrupted: Path, changes: dict, named: str
) -> None:
    sites = changes.pop("sites", [SITE, OTHER])
    with pytest.raises(UsageError, match="of another training") as refused:
        train(order(uninterrupted, sites, **changes))
    assert named in str(refused.value)


def test_an_sae_of_somebody_else_is_not_overwritten(order: MakeOrder, tmp_path: Path) -> None:
    tiny.sae_folder(tmp_path / "there")
    before = weights(tmp_path / "there")
    with pytest.raises(UsageError, match="was not trained here"):
        train(order(tmp_path / "there"))
    assert weights(tmp_path / "there") == before


def test_what_is_written_is_what_the_engine_and_sae_lens_read(subject: Subject, uninterrupted: Path) -> None:
    from sae_lens import SAE

    folder = uninterrupted / str(SITE)
    ours, theirs = open_dictionary(subject, SITE, str(folder)), SAE.load_from_disk(folder)
    meta = json.loads((folder / "cfg.json").read_text())["metadata"]
    assert ours.width == theirs.cfg.d_sae == SETTINGS.width and ours.sae.architecture == "jumprelu"
    assert (meta["hook_name"], meta["model_name"], meta["prepend_bos"]) == (str(SITE), "tiny", True)
    assert meta["context_size"] == COLLECTION.context and meta["sae_lens_version"]
    held_out = json.loads((folder / "training.json").read_text())["held_out"]
    assert (meta["l0"], meta["explained_variance"]) == (held_out["l0"], held_out["explained_variance"])


@pytest.mark.parametrize(
    ("sites", "context", "message"),
    [
        (["blocks.9.hook_resid_pre"], 16, "has 4 layers"),
        (["blocks.1.hook_resid_post", "blocks.2.hook_resid_pre"], 16, "name every place once"),
        ([], 16, "name every place once"),
        ([tiny.SITE], 65, "has 64 positions"),
    ],
)
def test_what_the_model_lacks_is_refused_before_any_work(
    subject: Subject, sites: list[str], context: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check(subject, [Site.parse(site) for site in sites], Collection(context=context))
