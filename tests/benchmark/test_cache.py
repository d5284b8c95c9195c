from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.cache import cache_dir
from benchmark.errors import UsageError


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOVERYBENCH_CACHE", str(tmp_path / "here"))
    assert cache_dir("a", "b") == (tmp_path / "here" / "a" / "b").resolve()
    assert cache_dir("a", "b").is_dir()


def test_without_it_it_is_the_systems_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECOVERYBENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path.resolve() in cache_dir("a").parents


def test_a_place_that_cannot_be_made_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RECOVERYBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set RECOVERYBENCH_CACHE to a folder"):
        cache_dir("a")
