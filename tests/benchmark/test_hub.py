"""The hub through a cache that was made by hand: what is there is found, what is not is named, nothing is asked."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from benchmark.errors import UsageError
from benchmark.hub import HubSource, Missing, go_offline, is_offline, missing, parse_hub, snapshot

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": "{}", "model.safetensors": "weights", "layer_3/params.npz": "numbers"}
HERE = HubSource("someone/thing", COMMIT, "")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a repository in a hub cache, as the hub's library lays it out."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--someone--thing"
    for number, (name, text) in enumerate(FILES.items()):
        blob, file = folder / "blobs" / str(number), folder / "snapshots" / COMMIT / name
        for path in (blob, file):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(text)
        file.symlink_to(blob)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hub:a/b", ("a/b", None, "")),
        ("hub:gpt2", ("gpt2", None, "")),
        ("hub:a/b@main", ("a/b", "main", "")),
        (f"hub:a.b/c-d_1@{COMMIT}/x/y=1/z.gguf", ("a.b/c-d_1", COMMIT, "x/y=1/z.gguf")),
    ],
)
def test_a_source_has_its_parts_and_is_written_as_it_was_read(text: str, parts: tuple[str, str | None, str]) -> None:
    assert parse_hub(text) == parts
    assert str(parse_hub(text)) == text


@pytest.mark.parametrize(
    "text",
    ["a/b", "hub:", "hub:a/b/c", "hub:a/b@", "hub:a/b@v/", "hub:a/b@v/../../x", "hub:/a", "hub:a b", "hub:a/b@v//"],
)
def test_a_source_of_another_form_says_how_to_write_it(text: str) -> None:
    with pytest.raises(UsageError, match=r"write hub:OWNER/NAME@REVISION"):
        parse_hub(text)


@pytest.mark.parametrize("revision", [COMMIT, "main", None])
def test_what_is_in_the_cache_needs_no_connection(hub: Path, revision: str | None) -> None:
    source = HERE._replace(revision=revision)
    assert missing(source, ["*.json", "*.safetensors"]) == []
    folder = snapshot(source, ["*.json", "*.safetensors"])
    assert (folder.name, (folder / "config.json").read_text()) == (COMMIT, "{}")


@pytest.mark.parametrize(
    ("source", "patterns"),
    [
        (HERE, ["layer_3/params.npz", "layer_4/params.npz"]),
        (HERE, ["layer_4/*"]),
        (HERE._replace(revision="v2"), ["config.json"]),
        (HERE._replace(repo="someone/else"), ["*"]),
    ],
)
def test_offline_what_is_missing_is_named(hub: Path, source: HubSource, patterns: list[str]) -> None:
    last = patterns[-1]
    assert missing(source, patterns) == [Missing(last, None)]
    with pytest.raises(UsageError, match=rf"this run is offline; missing: {re.escape(last)}; run it once"):
        snapshot(source, patterns)


def test_the_list_of_an_earlier_download_gives_names_and_sizes(hub: Path) -> None:
    listed = {name: {"size": 10, "blob_id": "0"} for name in [*FILES, "part-2.safetensors", "README.md"]}
    (hub / "trees").mkdir()
    (hub / "trees" / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": listed}))
    assert missing(HERE, ["*.safetensors", "*.json"]) == [Missing("part-2.safetensors", 10)]
    with pytest.raises(UsageError, match="missing: part-2.safetensors;"):
        snapshot(HERE, ["*.safetensors", "*.json"])
    assert missing(HERE, ["*.safetensors"], ignore=["part-*"]) == []


def refused(kind: type[errors.HfHubHTTPError], code: int) -> errors.HfHubHTTPError:
    return kind("no", response=httpx2.Response(code, request=httpx2.Request("GET", "https://huggingface.co")))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (refused(errors.GatedRepoError, 403), r"https://huggingface.co/datasets/a/b .* run `hf auth login`"),
        (refused(errors.RepositoryNotFoundError, 404), r"no dataset 'a/b' that you may see; give the name"),
        (refused(errors.RevisionNotFoundError, 404), r"a/b has no revision 'v9'; give a whole commit hash"),
        (refused(errors.HfHubHTTPError, 500), r"hub:a/b@v9 cannot be fetched"),
    ],
)
@pytest.mark.parametrize("ask", [snapshot, missing])
def test_what_the_hub_refuses_is_told_with_what_to_do(
    ask: Any, error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **asked: (_ for _ in ()).throw(error))
    with pytest.raises(UsageError, match=told):
        ask(HubSource("a/b", "v9", ""), ["*"], kind="dataset")


def test_what_would_be_downloaded_is_told_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    found = [
        SimpleNamespace(filename="a", file_size=3, will_download=True),
        SimpleNamespace(filename="b", file_size=5, will_download=False),
    ]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **asked: found if asked["dry_run"] else None)
    assert missing(HubSource("a/b", "v9", ""), ["*"]) == [Missing("a", 3)]


def test_a_file_that_the_repository_lacks_is_named(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folder = hub / "snapshots" / COMMIT
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **asked: str(folder))
    assert snapshot(HERE, ["config.json"]) == folder
    with pytest.raises(UsageError, match=rf"has no layer_9/\*; give .*/someone/thing/tree/{COMMIT}"):
        snapshot(HERE, ["layer_9/*"])


def test_going_offline_holds_until_it_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert not is_offline()
    with go_offline():
        assert is_offline() and huggingface_hub.is_offline_mode() and os.environ["HF_HUB_OFFLINE"] == "1"
    assert not is_offline() and "HF_HUB_OFFLINE" not in os.environ
    undo = go_offline()
    assert is_offline(), "it needs no context"
    undo.close()
    assert not is_offline()
