"""An entry is read as what it says it is, and nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.errors import RunDirectoryError, UsageError
from leaderboard.bundle import reading
from leaderboard.bundle.layout import ENTRY, SPEC, allowed
from leaderboard.bundle.reading import found_below, is_entry, read_bundle, strangers
from tests.leaderboard.verification.tampering import copied, edit_json


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("run.json", True),
        ("fits/ioi__none.json", True),
        ("fits/sae-clamp@2.json", True),
        ("code/my_defense.py", True),
        ("weights/sae/sae_weights.safetensors", True),
        ("weights/sae/cfg.json", True),
        (f"perturbations/{'0' * 64}.safetensors", True),
        ("../run.json", False),
        ("fits/../run.json", False),
        ("fits/..", False),
        ("/etc/passwd", False),
        ("fits/a/b.json", False),
        ("weights/sae/model.pt", False),
        ("weights/sae/model.pkl", False),
        ("code/.hidden.py", False),
        ("code/a.so", False),
        ("perturbations/mine.safetensors", False),
        ("README.md", False),
        ("run.json\n", False),
        ("FITS/a.json", False),
    ],
)
def test_an_entry_has_files_of_these_names(name: str, fine: bool) -> None:
    assert allowed(name) is fine


def test_what_is_no_entry_is_told(tmp_path: Path) -> None:
    assert not is_entry(tmp_path)
    with pytest.raises(UsageError, match="is no entry: it has no entry.json"):
        read_bundle(tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        found_below(tmp_path / "nowhere")
    for content in (b"", b"[1]", b"\xff", b'{"schema_version": 1, "schema_version": 1}', b'{"x": NaN}', b"[" * 99999):
        (tmp_path / ENTRY).write_bytes(content)
        with pytest.raises(RunDirectoryError, match="entry.json is damaged") as told:
            read_bundle(tmp_path)
        assert "\n" not in str(told.value)


def _link(entry: Path) -> None:
    (entry / SPEC).unlink()
    (entry / SPEC).symlink_to("/etc/hostname")


def _folder_link(entry: Path) -> None:
    (entry / "weights").symlink_to("/etc")


def _pickle(entry: Path) -> None:
    (entry / "weights").mkdir()
    (entry / "weights" / "model.pt").write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_link, "spec.json is a link or no plain file"),
        (_folder_link, "weights is a link or no plain file"),
        (_pickle, "'weights/model.pt' is no file that is handed in"),
    ],
)
def test_what_does_not_belong_is_told_and_not_read(
    toy_entry: Path, tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    entry = copied(toy_entry, tmp_path)
    harm(entry)
    with pytest.raises(UsageError) as told:
        read_bundle(entry)
    assert said in str(told.value)


def test_files_that_are_listed_elsewhere_are_not_looked_for(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_json(entry / ENTRY, lambda said: said["files"].update({"../../secret": "0" * 64}))
    with pytest.raises(UsageError, match=r"'../../secret' is listed, and no file that is handed in"):
        read_bundle(entry)


def test_too_much_is_refused_before_it_is_read(
    toy_entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = copied(toy_entry, tmp_path)
    monkeypatch.setattr(reading, "MOST_BYTES", 1000)
    (told,) = strangers(entry)
    assert "more than 1000" in told
    monkeypatch.setattr(reading, "MOST_FILES", 3)
    (told,) = strangers(entry)
    assert told == "it has more than 3 files"


def test_entries_are_found_in_order_below_a_folder(toy_entry: Path, tmp_path: Path) -> None:
    one, two = copied(toy_entry, tmp_path / "b"), copied(toy_entry, tmp_path / "a")
    assert found_below(tmp_path) == [two, one]
    assert read_bundle(one).entry == read_bundle(toy_entry).entry
    assert json.loads((one / ENTRY).read_text())["submitter"]["organisation"] == "Ada & Co"
