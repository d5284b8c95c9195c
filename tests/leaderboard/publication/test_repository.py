"""Publishing to a hub on this machine: what arrives, what is asked, and what is never said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from huggingface_hub import constants

from benchmark.errors import UsageError
from leaderboard.publication.commands import publish
from leaderboard.publication.repository import parse
from leaderboard.submission.submit import withdraw
from tests.leaderboard.publication.hub import REPOSITORY, TOKEN, Hub

TARGET = f"hf:{REPOSITORY}"


def published(entries: Path, to: str = TARGET, *, code: int = 0, yes: bool = True, artifacts: bool = False) -> None:
    """Run the command, which ends with a code."""
    with pytest.raises(typer.Exit) as end:
        publish(entries, to=to, yes=yes and to == TARGET, private=False, with_artifacts=artifacts)
    assert end.value.exit_code == code


def there(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def own(hub: Hub) -> dict[str, bytes]:
    return {name: content for name, content in hub.files.items() if name != ".gitattributes"}


def test_the_hub_gets_what_a_folder_gets_by_one_commit(
    entries: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(entries, artifacts=True)
    published(entries, str(tmp_path / "folder"), artifacts=True)
    assert own(hub) == there(tmp_path / "folder")
    assert {"README.md", "leaderboard.json"} < own(hub).keys()
    assert any(name.endswith("rows.parquet") for name in own(hub)) and any("/perturbations/" in n for n in own(hub))
    assert len(hub.commits) == 2, "the first is the hub's own"
    assert hub.large, "rows go the way of large files"
    assert TOKEN not in "".join(capsys.readouterr())


def test_without_yes_nothing_is_sent(entries: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    published(entries, yes=False)
    told = capsys.readouterr()
    assert hub.posts == [] and hub.made is None
    assert "there is no ada/results that you may see: it would be made" in told.err and "give --yes" in told.err
    lines = [line.split() for line in told.out.splitlines()]
    assert {line[0] for line in lines} == {"new"} and all(int(line[1].replace(",", "")) > 0 for line in lines)
    assert any(line[2].endswith("/rows.parquet") for line in lines)
    assert not any("/perturbations/" in line[2] for line in lines)


def test_what_is_there_already_is_not_sent_again(entries: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    published(entries)
    before = (list(hub.commits), list(hub.posts))
    capsys.readouterr()
    published(entries)
    assert (hub.commits, hub.posts) == before
    assert "0 files" in capsys.readouterr().err


def test_a_withdrawal_changes_entry_card_and_board_alone(
    entries: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    published(entries)
    withdraw(next(entries.rglob("entry.json")).parent, "the labels were wrong")
    capsys.readouterr()
    published(entries, yes=False)
    changed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {line[0] for line in changed} == {"changed"}
    assert sorted(line[2].split("/")[-1] for line in changed) == ["README.md", "entry.json", "leaderboard.json"]
    published(entries)
    said = next(content for name, content in hub.files.items() if name.endswith("entry.json"))
    assert json.loads(said)["withdrawn"]["why"] == "the labels were wrong"


def test_a_stale_file_of_an_entry_is_deleted_and_another_entry_stays(entries: Path, hub: Hub) -> None:
    published(entries, artifacts=True)
    gone = "results/toy__v1/somebody__else/abc/entry.json"
    hub.files[gone] = b"{}"
    published(entries)
    assert gone in hub.files and not any("/perturbations/" in name for name in hub.files)


def test_a_repository_of_something_else_is_left_alone(entries: Path, hub: Hub) -> None:
    published(entries)
    hub.files["data.csv"] = b"mine"
    with pytest.raises(UsageError, match="holds data.csv, which no publication has; give an empty place"):
        publish(entries, to=TARGET, yes=True)
    assert hub.files["data.csv"] == b"mine" and len(hub.commits) == 2


def test_who_publishes_meanwhile_is_not_overwritten(entries: Path, hub: Hub) -> None:
    published(entries)
    withdraw(next(entries.rglob("entry.json")).parent, "the labels were wrong")
    hub.meanwhile = "f" * 40
    with pytest.raises(UsageError, match="somebody else has published meanwhile; repeat the command"):
        publish(entries, to=TARGET, yes=True)


def test_a_token_that_may_not_write_is_told_and_not_shown(
    entries: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(UsageError, match=r"\(403\): give a repository of your own") as refused:
        publish(entries, to=TARGET, yes=True)
    assert "hf_another" not in str(refused.value)


def test_without_a_token_nothing_is_sent(
    entries: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="set HF_TOKEN, or run `hf auth login`"):
        publish(entries, to=TARGET, yes=True)
    assert hub.posts == []


def test_without_a_network_the_list_is_told_all_the_same(
    entries: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    published(entries, yes=False)
    told = capsys.readouterr()
    assert "what is there already is not known" in told.err and "leaderboard.json" in told.out
    with pytest.raises(UsageError, match="the hub cannot be asked"):
        publish(entries, to=TARGET, yes=True)


@pytest.mark.parametrize("target", ["hf:", "hf:name", "hf:a/b/c", "hf:a/../b", "hf:/b"])
def test_a_target_of_another_form_says_how_to_write_it(target: str) -> None:
    with pytest.raises(UsageError, match="write hf:OWNER/NAME"):
        parse(target)
