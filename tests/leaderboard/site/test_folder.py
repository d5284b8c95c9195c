"""A build owns its folder and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UsageError
from leaderboard.board.schema import Leaderboard
from leaderboard.site.build import build
from leaderboard.site.folder import LISTING, replace


def there(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_build_writes_its_pages_and_names_them(board: Leaderboard, files: dict[str, bytes], tmp_path: Path) -> None:
    written = build(board, tmp_path / "site")
    assert {path.relative_to(tmp_path / "site").as_posix() for path in written} == there(tmp_path / "site")
    assert there(tmp_path / "site") == {*files, LISTING}


def test_what_an_earlier_build_left_is_removed(tmp_path: Path) -> None:
    replace(tmp_path, {"a/b/old.html": b"1", "same.html": b"2"})
    replace(tmp_path, {"same.html": b"3", "new/x.html": b"4"})
    assert there(tmp_path) == {"same.html", "new/x.html", LISTING}
    assert (tmp_path / "same.html").read_bytes() == b"3"
    assert not (tmp_path / "a").exists()


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    replace(tmp_path, {"x.html": b"1"})
    before = (tmp_path / "x.html").stat()
    replace(tmp_path, {"x.html": b"1"})
    assert (tmp_path / "x.html").stat().st_ino == before.st_ino


@pytest.mark.parametrize("name", ["notes.txt", ".git/config", "x.html", LISTING])
def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="which no build of the site has written; give an empty folder"):
        replace(tmp_path, {"x.html": b"1"})
    assert there(tmp_path) == {name}
    assert (tmp_path / name).read_text() == "mine"


def test_links_are_refused_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.html").write_text("mine")
    site = tmp_path / "site"
    replace(site, {"a/x.html": b"1"})
    (site / "a" / "x.html").unlink()
    (site / "a").rmdir()
    (site / "a").symlink_to(outside)
    with pytest.raises(UsageError, match="holds a,"):
        replace(site, {"b.html": b"1"})
    assert (outside / "x.html").read_text() == "mine"


def test_a_listing_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    site = tmp_path / "site"
    replace(site, {"x.html": b"1"})
    (site / LISTING).write_text('{"files": ["../mine.txt", "x.html", "site.json"]}')
    replace(site, {"y.html": b"1"})
    assert (tmp_path / "mine.txt").exists() and there(site) == {"y.html", LISTING}


def test_a_build_that_was_cut_off_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leaderboard.site import folder as module

    whole = module.write_atomically
    done: list[Path] = []

    def cut(path: Path, save: object) -> None:
        if len(done) == 2:
            path.with_name(path.name + ".part").write_text("draft")
            raise OSError(28, "no space")
        done.append(path)
        whole(path, save)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_atomically", cut)
    with pytest.raises(UsageError, match="the disk is full; make room and repeat the build"):
        replace(tmp_path, {"a.html": b"1", "b.html": b"2", "c.html": b"3"})
    monkeypatch.undo()
    replace(tmp_path, {"a.html": b"1", "d.html": b"4"})
    assert there(tmp_path) == {"a.html", "d.html", LISTING}


def test_an_entry_that_is_there_twice_is_refused(board: Leaderboard, tmp_path: Path) -> None:
    one = board.suites[0]
    twice = board.model_copy(update={"suites": [one.model_copy(update={"entries": [*one.entries, one.entries[0]]})]})
    with pytest.raises(UsageError, match="there twice: wall__run-1; give each run once"):
        build(twice, tmp_path / "site")
    assert not (tmp_path / "site").exists()
