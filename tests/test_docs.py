"""What the documentation says works: every command, example, link and picture of README and ``docs/``."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from benchmark import evaluate
from benchmark.cli import COMMANDS, app
from benchmark.documents import read
from benchmark.run.request import Request
from benchmark.spec import resolve_attack, resolve_defense
from benchmark.suite_file import load_suite
from tests.documents import LANGUAGES, PAGES, ROOT, block, blocks, check, commands, is_there, links, places
from tests.leaderboard.conftest import toy_entry, toy_run, toy_suite  # noqa: F401

SHELL = [(b.page, command) for b in blocks() if b.language == "sh" for command in commands(b.text)]
QUICK = ("list", "show", "compare", "verify", "submit", "leaderboard")
"""Verbs of which every command line in the pages is really run."""


# --- the pages


def test_every_command_is_understood() -> None:
    assert len(SHELL) > 40 and {page for page, _ in SHELL} >= {"README.md", "docs/getting-started.md"}
    for page, command in SHELL:
        try:
            check(command)
        except Exception as error:
            raise AssertionError(f"{page}: {command}: {error}") from error


@pytest.mark.parametrize(
    "wrong",
    ["bench evaluate --folder x", "bench nothing", "make nothing", "rm -r x", "bench verify", "bench submit a b"],
)
def test_a_command_that_does_not_work_is_noticed(wrong: str) -> None:
    with pytest.raises(Exception, match=r"."):
        check(wrong)


def test_every_verb_that_is_named_exists_and_every_verb_is_named() -> None:
    named = {verb for text in PAGES.values() for verb in re.findall(r"`bench ([a-z]\w*)", text)}
    assert named <= set(COMMANDS.names())
    assert set(COMMANDS.names()) <= {*named, *(shlex.split(command)[1] for _, command in SHELL if "bench" in command)}


def test_every_block_says_its_language() -> None:
    assert [(b.page, b.text[:40]) for b in blocks() if b.language not in LANGUAGES] == []
    (odd,) = blocks({"page": "a\n```\nbench list\n```\n"})
    assert odd.language not in LANGUAGES


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    assert [target for target in links(PAGES[page]) if not is_there(page, target)] == []


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    assert links("[a](b.md) ![c](d.png) [e](https://f.org)") == ["b.md", "d.png"]
    assert is_there("docs/limits.md", "suites.md#kinds-of-tasks") and is_there("README.md", "#four-uses")
    assert not any(is_there("docs/limits.md", t) for t in ("none.md", "suites.md#none", "figures/none.png", "#none"))


def test_no_page_names_a_place_of_a_machine() -> None:
    assert {page: found for page, text in PAGES.items() if (found := list(places(text)))} == {}
    assert list(places("see /home/ada/x, and https://example.org/tmp/x")) == ["/home"]


def test_the_readme_is_two_screens() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 130


def test_every_page_is_on_the_site_and_linked_from_the_readme() -> None:
    listed = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    pages = {Path(page).name for page in PAGES if page != "README.md"}
    elsewhere = {"index.md", "method.md", "contributing.md", "changelog.md", "flags.md"}
    assert listed == pages | elsewhere
    assert {f"docs/{page}" for page in pages} <= {target.partition("#")[0] for target in links(PAGES["README.md"])}


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs")
def test_the_site_builds_and_needs_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = {file.name: file.read_text("utf-8") for file in (tmp_path / "site").glob("*.html")}
    assert len(made) == len(PAGES) + 4 and "not-monotone" in made["flags.html"] and "suppressed" in made["columns.html"]
    loaded = [u for text in made.values() for u in re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', text)]
    assert loaded and [u for u in loaded if re.match(r"/|https?:", u)] == []
    assert [u for u in loaded if not (tmp_path / "site" / u.partition("?")[0]).exists()] == []


# --- the examples


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the pages, which is the working directory."""
    for b in blocks():
        named = re.match(r"# ([\w.]+\.(?:py|yaml))\n", b.text)
        if named:
            (tmp_path / named[1]).write_text(b.text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bench(*arguments: str) -> Result:
    """``bench`` in this process; an error of the user's asking is ``exception``."""
    return CliRunner().invoke(app, list(arguments))


def test_the_attack_of_the_pages_is_validated_by_a_run(here: Path) -> None:
    attack = resolve_attack("my_attack.py:Walk")
    harder = attack.harder(3)
    assert (harder.steps, harder.restarts) == (24, 3)  # type: ignore[attr-defined]
    options = {"count": 12, "rate_ratio": 1.25, "strength": 1.0}
    result = evaluate(
        "sae-clamp",
        suite="smoke",
        tasks=["ioi"],
        attacks=["my_attack.py:Walk"],
        options=options,
        controls=False,
        output_dir=here / "run",
    )
    rows = [r for r in result.rows.to_pylist() if r["attack"] == "walk"]
    assert result.status == "complete" and any(r["recovered"] for r in rows)
    assert all(r["delta_norm"] <= r["budget_abs"] * 1.001 for r in rows if r["status"] == "ok")


def test_the_defense_of_the_pages_keeps_its_promises(here: Path) -> None:
    done = bench("validate", "--defense", "my_defense.py:AblateDirection", "--suite", "smoke", "--task", "ioi")
    assert done.exit_code == 0, done.output


def test_a_defense_that_breaks_a_promise_is_noticed(here: Path) -> None:
    text = (here / "my_defense.py").read_text().replace("return h - ", "return h + h.mean(1, keepdim=True) - ")
    (here / "my_defense.py").write_text(text)
    done = bench("validate", "--defense", "my_defense.py:AblateDirection", "--suite", "smoke", "--task", "ioi")
    assert done.exit_code == 1, done.output


def test_every_yaml_file_of_the_pages_is_read(here: Path) -> None:
    files = {file.name for file in here.glob("*.yaml")}
    assert files == {"my_clamp.yaml", "my_suite.yaml", "run.yaml"}
    assert resolve_defense("my_clamp.yaml").name == "my-clamp"
    assert "metals" in load_suite("my_suite.yaml").tasks
    assert Request.make(dict(read(here / "run.yaml").value), "run.yaml").tasks == ("choice",)


def test_what_lm_eval_is_asked_is_a_part_of_a_suite(here: Path) -> None:
    asked = yaml.safe_load(block("yaml", "utility:").replace("<commit>", "a" * 40))
    asked["utility"][0]["task"] = str(ROOT / "tasks/organism/lm_eval/knowledge.yaml")
    (here / "asked.yaml").write_text(yaml.safe_dump({"extends": "embedded", "name": "asked", **asked}))
    assert [one.keep for one in load_suite("asked.yaml").utility] == [0.95, 0.99]
    (here / "asked.yaml").write_text(yaml.safe_dump({"extends": "embedded", "name": "asked", "utilities": []}))
    with pytest.raises(Exception, match="utilities"):
        load_suite("asked.yaml")


def test_every_other_block_is_one_of_these() -> None:
    """A new file or example needs its test above."""
    shown = [b.text.splitlines()[0] for b in blocks() if b.language in ("python", "yaml", "json")]
    assert sorted(shown) == sorted(
        ["# my_attack.py", "# my_clamp.yaml", "# my_defense.py", "# my_suite.yaml", "# run.yaml"]
        + ["from benchmark import evaluate", "utility:"]
    )


# --- the commands, in a folder where the runs that they name are


def test_the_quick_commands_do_what_they_say(
    here: Path,
    toy_run: Path,  # noqa: F811
    toy_entry: Path,  # noqa: F811
) -> None:
    for name in ("mine", "clamp", "old", "new"):
        shutil.copytree(toy_run, here / "runs" / name)
    done = set[tuple[str, ...]]()
    for page, command in SHELL:
        words = instead(command, toy_entry) if shlex.split(command)[1] in QUICK else ()
        if words and words not in done:
            found = bench(*words)
            assert found.exit_code == 0, f"{page}: {command}: {found.output} {found.exception}"
            done.add(words)
    assert {words[0] for words in done} == {*QUICK}
    assert (here / "board" / "leaderboard.json").is_file() and (here / "board" / "index.html").is_file()


def instead(command: str, entry: Path) -> tuple[str, ...]:
    """A command line of a page, with the toy run and its entry in the places of those that it names."""
    words = shlex.split(command)[1:]
    if words[0] == "compare":
        return ("compare", "runs/old", "runs/new")  # the toy run has one defense, and no suffix
    if "--replay" in words:
        return ("verify", str(entry))  # tests/leaderboard/verification replays and reruns
    if words[0] == "submit" and "--with-perturbations" in words:
        words += ["-o", "shared"]
    return tuple(str(next(Path().glob("leaderboard/entries/*/*/*"))) if "/entries/" in w else w for w in words)


# --- the tour


def test_the_tour_ends_in_a_plot(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "docs" / "tour.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    picture = Path(done.stdout.splitlines()[-1])
    assert picture.read_bytes().startswith(b"\x89PNG") and "before_edit" in done.stdout
