"""A sound model passes every check; a model, an SAE or a pass that is off fails the check that is about it, alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from benchmark.measure import self_check
from benchmark.run import doctor
from benchmark.run.commands import doctor as verb
from benchmark.run.doctor import examined, failed
from benchmark.run.request import Request
from tests.benchmark.measure.test_self_check import NotReplayable, WrongGradient, WrongValues
from tests.tiny import SITE, sae_folder


def bad(suite: str) -> list[str]:
    """What of a suite's model is not as it should be."""
    return [check.what for check in examined(Request.make({"suite": suite})) if check.ok is False]


@pytest.fixture
def sound(suite: str, tmp_path: Path) -> str:
    """The toy suite with an SAE that explains something: its latents are the stream's own directions, both ways."""
    content = yaml.safe_load(Path(suite).read_text())
    folder = Path(sae_folder(tmp_path / "sae", architecture="standard"))
    tensors, both = load_file(folder / "sae_weights.safetensors"), torch.cat([torch.eye(32), -torch.eye(32)])
    tensors |= {"W_enc": both.T.contiguous(), "W_dec": both, "b_dec": torch.zeros(32), "b_enc": torch.full((64,), -0.1)}
    save_file(tensors, folder / "sae_weights.safetensors")
    content["model"]["source"] = str(Path(suite).parent / "model")
    content["saes"] = {SITE: str(folder)}
    path = tmp_path / "sound.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_sound_model_passes_and_every_check_gives_evidence(sound: str) -> None:
    checks = list(examined(Request.make({"suite": sound})))
    assert not failed(checks), [c for c in checks if c.ok is False]
    looked = {c.what: c.evidence for c in checks if c.ok}
    assert set(looked) == {
        "model",
        *(f"toy: {what}" for what in ("tail pass", "packing", "determinism", "BOS")),
        f"SAE at {SITE}",
    }
    assert all(c.evidence for c in checks)
    assert int(looked["toy: packing"].split()[0]) > 1, "an example is tried beside others"


def test_a_token_is_never_shown(sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    checks = list(examined(Request.make({"suite": sound})))
    assert next(c.evidence for c in checks if c.what == "hub token") == "present"
    assert "secretsecret" not in str(checks)


@pytest.mark.parametrize("broken", [WrongValues, WrongGradient, NotReplayable])
def test_a_tail_pass_that_is_off_fails(broken: Any, sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "TailPass", broken)
    assert bad(sound) == ["toy: tail pass"]


def _noisy(read: torch.Tensor, rows: int) -> torch.Tensor:
    return read + 1e-6 * torch.rand_like(read)


def _by_neighbours(read: torch.Tensor, rows: int) -> torch.Tensor:
    return read * (1 + 0.01 * rows)


@pytest.mark.parametrize(("change", "what"), [(_noisy, "determinism"), (_by_neighbours, "packing")])
def test_a_model_that_does_not_repeat_itself_or_mixes_rows_fails(
    change: Callable[[torch.Tensor, int], torch.Tensor], what: str, sound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = doctor.read_pack
    monkeypatch.setattr(doctor, "read_pack", lambda s, pack, edits: change(honest(s, pack, edits), len(pack)))
    assert bad(sound) == [f"toy: {what}"]


def test_prompts_that_begin_twice_fail(sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = doctor.encode

    def twice(*what: Any) -> list[Any]:
        return [m._replace(encoded=_doubled(m.encoded)) for m in honest(*what)]

    monkeypatch.setattr(doctor, "encode", twice)
    assert bad(sound) == ["toy: BOS"]


def _doubled(encoded: Any) -> Any:
    return replace(encoded, tokens=(encoded.tokens[0], *encoded.tokens))


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: {**t, "W_dec": -t["W_dec"]},
        lambda t: {**t, "b_enc": torch.full_like(t["b_enc"], -1e6)},
        lambda t: {**t, "W_enc": t["W_enc"] * torch.nan},
    ],
    ids=["decoder upside down", "never active", "NaN"],
)
def test_a_broken_sae_fails(damage: Callable[[Any], Any], sound: str) -> None:
    file = Path(yaml.safe_load(Path(sound).read_text())["saes"][SITE]) / "sae_weights.safetensors"
    save_file(damage(load_file(file)), file)
    assert bad(sound) == [f"SAE at {SITE}"]


def test_the_verb_exits_1_if_a_check_fails_and_prints_json(sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app, arguments = typer.Typer(), ["--suite", sound, "--json"]
    app.command()(verb.made())
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and {c["ok"] for c in json.loads(done.stdout)} == {True, None}
    monkeypatch.setattr(self_check, "TailPass", WrongValues)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and any(c["ok"] is False and c["remedy"] for c in json.loads(done.stdout))
