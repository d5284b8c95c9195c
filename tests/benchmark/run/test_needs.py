"""What is not on this machine is named with its size, terms and command before anything is loaded or fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants
from typer.testing import CliRunner

from benchmark import UsageError, evaluate
from benchmark.cli import app
from benchmark.hub import Missing, is_offline
from benchmark.run import needs as module
from benchmark.run import prepare as preparing
from benchmark.run.needs import announce, connection, needs, spoken_size
from benchmark.run.prepare import asked_tasks, named_defenses
from benchmark.run.request import Request
from tests.tiny import SITE

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL, SAES, DATA = f"hub:someone/model@{COMMIT}", f"hub:someone/saes@{COMMIT}/layer_1", f"hub:someone/data@{COMMIT}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache without anything in it, and no way to the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def remote(suite: str, hub: Path, tmp_path: Path) -> str:
    """The toy suite with its model, SAE and data on the hub."""
    content = yaml.safe_load(Path(suite).read_text())
    task = {**content["tasks"]["toy"], "settings": {"data": {"source": f"{DATA}:config:test"}}}
    content |= {"model": {"source": MODEL, "name": "tiny"}, "saes": {SITE: SAES}, "tasks": {"toy": task}}
    path = tmp_path / "remote.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def cached(hub: Path, repository: str, files: dict[str, str]) -> None:
    """Files of a repository, as the hub's library lays them out."""
    for name, text in files.items():
        file = hub / repository / "snapshots" / COMMIT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def asked(path: str, **options: Any) -> list[module.Need]:
    request = Request.make({"suite": path, "defense": "none", **options})
    suite, tasks = asked_tasks(request)
    return needs(suite, named_defenses(suite, request), tasks)


def test_what_a_suite_reads_from_elsewhere_is_found_and_what_is_here_is_not_missing(remote: str, hub: Path) -> None:
    found = asked(remote)
    assert [(n.what, n.source, n.here) for n in found] == [
        ("model", MODEL, False),
        (f"SAE at {SITE}", SAES, False),
        ("data of toy", f"{DATA}:config:test", False),
    ]
    cached(hub, "models--someone--model", {"config.json": "{}", "model.safetensors": ""})
    cached(hub, "models--someone--saes", {"layer_1/cfg.json": "{}"})
    cached(hub, "datasets--someone--data", {"rows.csv": ""})
    assert all(need.here for need in asked(remote))


def test_the_model_of_a_tasks_judge_is_read_from_elsewhere_too(remote: str, hub: Path) -> None:
    judge = f"hub:someone/judge@{COMMIT}"
    content = yaml.safe_load(Path(remote).read_text())
    content["tasks"]["toy"]["settings"]["judge_settings"] = {"model": judge, "mapping": {"LABEL_0": "complies"}}
    Path(remote).write_text(yaml.safe_dump(content))
    (need,) = [n for n in asked(remote) if n.what == "model of toy"]
    assert (need.source, need.here, need.get) == (judge, False, f"bench model fetch {judge}")
    with pytest.raises(UsageError, match=rf"(?s)--offline.*model of toy: {judge}"):
        announce([need], print, offline=True)
    cached(hub, "models--someone--judge", {"config.json": "{}", "model.safetensors": ""})
    assert [n.here for n in asked(remote) if n.what == "model of toy"] == [True]


def test_a_local_suite_needs_nothing(suite: str) -> None:
    assert asked(suite) == []


def test_a_spec_with_an_sae_of_its_own_needs_what_it_names(suite: str, hub: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for sae, lacking in (("own", 0), (SAES, 1)):
        spec = {"defense": "sae-clamp", "layers": [{"site": SITE, "sae": sae}]}
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
        found = asked(suite, defense=str(tmp_path / "spec.yaml"))
        assert [need.source for need in found if not need.here] == [SAES][:lacking]


def test_sizes_terms_and_commands_are_told_before_anything_is_fetched(
    remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [Missing("a", 2_000_000), Missing("b", 500_000)]
    monkeypatch.setattr(module, "missing", lambda *_, **__: files)
    monkeypatch.setattr(module, "to_fetch", lambda *_: files)
    monkeypatch.setattr(module, "is_offline", lambda: False)
    monkeypatch.setattr(module, "terms", lambda *_: "licence gemma, accept its terms on its page first")
    lines: list[str] = []
    announce(asked(remote), lines.append, offline=False)
    assert len(lines) == 3
    assert all("(2.5 MB); licence gemma, accept" in line and "https://huggingface.co/" in line for line in lines)
    assert "https://huggingface.co/datasets/someone/data" in lines[2]


def test_a_gated_repository_does_not_hide_the_others(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise UsageError("someone/model is gated")

    monkeypatch.setattr(module, "missing", refused)
    monkeypatch.setattr(module, "to_fetch", refused)
    assert [need.refused for need in asked(remote)] == ["someone/model is gated"] * 3


def test_offline_names_all_that_is_missing_at_once_and_loads_nothing(
    remote: str, hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(preparing, "load_subject", lambda *_: pytest.fail("it is loaded"))
    cached(hub, "models--someone--saes", {"layer_1/cfg.json": "{}"})
    with pytest.raises(UsageError) as told:
        evaluate("none", suite=remote, offline=True, output_dir=tmp_path / "run")
    text = str(told.value)
    assert f"bench model fetch {MODEL}" in text
    assert f"hf download someone/data --repo-type dataset --revision {COMMIT}" in text
    assert "someone/saes" not in text, "it is here"
    assert not (tmp_path / "run").exists()


def test_offline_holds_for_the_run_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with connection(True):
        assert is_offline()
    assert not is_offline()
    with connection(False):
        assert not is_offline()


def test_a_plan_with_nothing_here_lists_it_and_ends_well(remote: str) -> None:
    done = CliRunner().invoke(app, ["plan", "--suite", remote, "-d", "none"])
    assert done.exit_code == 0 and done.exception is None, done.output
    assert f"bench model fetch {MODEL}" in done.output and "the rest needs what is to be fetched" in done.output


@pytest.mark.parametrize(("size", "said"), [(12, "12 bytes"), (1500, "1.5 kB"), (5_200_000_000, "5.2 GB")])
def test_sizes_are_said_in_words(size: int, said: str) -> None:
    assert spoken_size(size) == said
