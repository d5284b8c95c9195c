"""A pull request on this machine: a repository, a base, a head, and what is said of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from leaderboard.bundle.layout import CERTIFICATE
from leaderboard.verification.changed import ENTRIES
from leaderboard.verification.pull_request import main
from tests.leaderboard.verification.tampering import copied, edit_json, sealed


def git(root: Path, *command: str) -> str:
    identity = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
    return subprocess.run(["git", "-C", root, *identity, *command], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "commit", "-q", "--allow-empty", "-m", "base")
    return root


def verified(root: Path, folder: Path, *more: str) -> tuple[int, str]:
    """The exit code and the summary of what lies in a repository beyond its first commit."""
    base = git(root, "rev-parse", "HEAD").strip()
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "head")
    head = git(root, "rev-parse", "HEAD").strip()
    places = ("--certificates", str(folder / "certificates"), "--summary", str(folder / "summary.md"))
    return main([str(root), base, head, *places, *more]), (folder / "summary.md").read_text()


def test_a_good_entry_holds_and_has_its_certificate(toy_entry: Path, repository: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, repository / ENTRIES)
    code, told = verified(repository, tmp_path)
    assert code == 0 and "| yes | recomputed | <code>recomputed only&#58; nothing was replayed</code> |" in told
    assert (tmp_path / "certificates" / "entries").joinpath(*entry.parts[-3:], CERTIFICATE).is_file()
    assert not (entry / CERTIFICATE).exists()


def test_what_does_not_hold_is_told_and_inert(
    toy_entry: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = copied(toy_entry, repository / ENTRIES)
    edit_json(entry / "entry.json", lambda said: said.update(run_id="<img src=x> | @ada\n::error::x"))
    code, told = verified(repository, tmp_path)
    assert code == 1 and "**no**" in told
    assert "<img" not in told and "@ada" not in told and "::error" not in told + capsys.readouterr().out
    assert [line.count("|") for line in told.splitlines() if line.startswith("|")] == [5, 5, 5]


def test_code_is_not_run_and_a_maintainer_is_asked(toy_entry: Path, repository: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, repository / ENTRIES)
    (entry / "code").mkdir()
    (entry / "code" / "mine.py").write_text("raise SystemExit(7)\n")
    edit_json(entry / "spec.json", lambda spec: spec.update(defense="code/mine.py:Mine"))
    sealed(entry)
    code, told = verified(repository, tmp_path, "--replay", "toy")
    assert code == 0 and "a maintainer has to read it" in told and "| recomputed |" in told


def test_shared_perturbations_of_a_suite_that_is_here_are_asked_for(
    toy_entry: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leaderboard.verification import pull_request as module

    asked = []
    whole = module.verify
    monkeypatch.setattr(module, "verify", lambda where, how: asked.append(how.replay) or whole(where))
    copied(toy_entry, repository / ENTRIES)
    verified(repository, tmp_path, "--replay", "toy")
    assert asked == [True]


def test_what_is_not_allowed_ends_it(toy_entry: Path, repository: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, repository / ENTRIES)
    (entry / CERTIFICATE).write_text("{}")
    (repository / "conftest.py").symlink_to("/")
    code, told = verified(repository, tmp_path)
    assert code == 1 and "Nothing was verified" in told and told.count("not allowed") == 2
    assert not (tmp_path / "certificates").exists()
