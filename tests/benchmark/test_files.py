"""Files are whole or not there at all, however a save ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from benchmark.files import write_atomically


def saves(text: str) -> Any:
    return lambda part: part.write_text(text)


def test_a_save_replaces_the_old_file_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    for text in ("old", "new"):
        write_atomically(path, saves(text))
        assert path.read_text() == text and [p.name for p in tmp_path.iterdir()] == ["suite.yaml"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("no JSON"), KeyboardInterrupt()])
def test_an_interrupted_save_leaves_the_old_file_and_no_draft(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "suite.yaml"

    def half(part: Path) -> None:
        part.write_text("ne")
        assert sorted(p.name for p in tmp_path.iterdir()) in (["suite.yaml", "suite.yaml.part"], ["suite.yaml.part"])
        raise error

    for before in (None, "old"):
        if before is not None:
            path.write_text(before)
        with pytest.raises(type(error)):
            write_atomically(path, half)
        assert [p.read_text() for p in tmp_path.iterdir()] == ([] if before is None else [before])


def test_nobody_sees_a_file_that_is_not_saved_yet(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("old")
    seen: list[str] = []
    write_atomically(path, lambda part: (part.write_text("new"), seen.append(path.read_text())))
    assert seen == ["old"] and path.read_text() == "new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_fails_at_its_end_leaves_the_old_file(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("old")

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="the disk is gone"):
        write_atomically(path, saves("new"))
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
