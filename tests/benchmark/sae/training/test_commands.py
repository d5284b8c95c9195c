"""`bench sae train`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.sae.training.commands import app
from tests import tiny

SIZES = "--name tiny --width 48 --k 6 --context 16 --device cpu --batch-size 64 --visits 640 --save-dtype float16"
HERE = ("--site", tiny.SITE)


@pytest.fixture
def model(subject: Subject, tmp_path: Path) -> Path:
    """The tiny model's folder."""
    subject.model.save_pretrained(tmp_path / "model")
    subject.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def train(model: Path, text: Path, folder: Path, *flags: str) -> Result:
    where = ["--model", str(model), "--text", str(text), "-o", str(folder)]
    return CliRunner().invoke(app, ["train", *SIZES.split(), *where, *flags])


def test_it_trains_and_tells(model: Path, words: Path, tmp_path: Path) -> None:
    done = train(model, words, tmp_path / "sae", *HERE)
    assert done.exit_code == 0, done.output
    assert "explained variance" in done.output and "of the loss recovered" in done.output
    assert json.loads((tmp_path / "sae/cfg.json").read_text())["dtype"] == "float16"


@pytest.mark.parametrize(
    ("flags", "message"), [(["--site", "layer 3"], "--site"), ([*HERE, "--width", "6"], "of 6 latents")]
)
def test_what_cannot_be_trained_leaves_nothing(
    model: Path, words: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    refused = train(model, words, tmp_path / "no", *flags)
    assert isinstance(refused.exception, UsageError) and message in str(refused.exception)
    assert not (tmp_path / "no").exists()


def test_two_saes_may_differ_in_nothing_but_their_seed(model: Path, words: Path, tmp_path: Path) -> None:
    def made(name: str, *flags: str) -> tuple[dict[str, Any], bytes]:
        """The report, and the weights' bytes."""
        folder = tmp_path / name
        assert train(model, words, folder, *HERE, *flags).exit_code == 0
        return json.loads((folder / "training.json").read_text()), (folder / "sae_weights.safetensors").read_bytes()

    (a, ours), (b, theirs) = made("a"), made("b", "--seed", "1", "--text-seed", "0")
    other, _ = made("c", "--seed", "1")
    assert ours != theirs and b["settings"] == {**a["settings"], "seed": 1}
    assert a["collection"] == b["collection"] != other["collection"]
