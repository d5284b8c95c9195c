"""A ZIP file of an entry is that entry, and no ZIP file writes anywhere else or without end."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from leaderboard.bundle import archive
from leaderboard.bundle.archive import unpacked
from leaderboard.bundle.layout import ENTRY
from leaderboard.bundle.reading import digests, read_bundle

GOOD = {ENTRY: b"{}", "run.json": b"{}"}


def packed(file: Path, members: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = ((modes or {}).get(name, stat.S_IFREG | 0o644)) << 16
            made.writestr(info, content)
    return file


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_entry_is_the_same_packed_and_unpacked(toy_entry: Path, tmp_path: Path, depth: int) -> None:
    with zipfile.ZipFile(tmp_path / "entry.zip", "w") as made:
        for path in sorted(toy_entry.rglob("*")):
            made.write(path, path.relative_to([toy_entry, toy_entry.parent, None, toy_entry.parents[2]][depth]))  # type: ignore[arg-type]
    with unpacked(tmp_path / "entry.zip") as folder:
        assert digests(folder) == digests(toy_entry) and read_bundle(folder).entry == read_bundle(toy_entry).entry
    assert not folder.exists(), "and nothing of it is left"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "holds 0 entries"),
        ({ENTRY: b"{}", f"a/{ENTRY}": b"{}"}, "holds 2 entries"),
        (GOOD | {"../run.json": b""}, "'../run.json', which is no file of an entry"),
        (GOOD | {"/etc/cron.d/x": b""}, "'/etc/cron.d/x', which is no file of an entry"),
        (GOOD | {"fits/../../x.json": b""}, "'fits/../../x.json', which is no file of an entry"),
        (GOOD | {"weights/a/model.pkl": b""}, "'weights/a/model.pkl', which is no file of an entry"),
        ({f"../../{ENTRY}": b"{}"}, "holds its entry at '../..'"),
        ({f"/abs/{ENTRY}": b"{}"}, "holds its entry at '/abs'"),
        ({f"a/b/c/d/{ENTRY}": b"{}"}, "holds its entry at 'a/b/c/d'"),
        (GOOD | {"fits/A.json": b"", "fits/a.json": b""}, "two files of one name"),
        (GOOD | {"run.json": b"0" * (1 << 30)}, "would unpack to 2 files"),
    ],
)
def test_what_leads_elsewhere_or_is_too_much_is_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    (tmp_path / "in").mkdir()
    file = packed(tmp_path / "in" / "entry.zip", members)
    with pytest.raises(UsageError) as told, unpacked(file):
        raise AssertionError("it was unpacked")
    assert said in str(told.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "entry.zip"]


def test_a_link_is_no_file(tmp_path: Path) -> None:
    file = packed(tmp_path / "entry.zip", GOOD | {"spec.json": b"/etc/passwd"}, {"spec.json": stat.S_IFLNK | 0o777})
    with pytest.raises(UsageError, match="'spec.json', which is no file of an entry"), unpacked(file):
        raise AssertionError("it was unpacked")


def test_a_file_that_is_longer_than_it_says_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = packed(tmp_path / "entry.zip", GOOD | {"rows.parquet": b"x" * 1000})
    monkeypatch.setattr(archive, "_refuse", lambda members, *_: [setattr(m, "file_size", 10) for m in members])
    with pytest.raises(UsageError, match="is longer than it says|cannot be unpacked"), unpacked(file):
        raise AssertionError("it was unpacked")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "entry.zip").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be unpacked|holds 0 entries"), unpacked(tmp_path / "entry.zip"):
        raise AssertionError("it was unpacked")
