"""Any visible name is served: it is shown as it is, and a file is called after it without being it."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmark.errors import UsageError
from benchmark.files import file_name
from benchmark.names import checked_name
from benchmark.run.display import Live
from benchmark.spec import resolve_defense
from benchmark.terminal import plain_table, terminal

ODD = [
    "[v2]",
    "[/v2]",
    "[bold]x[/bold]",
    "a/b",
    "..",
    ".",
    "../../etc",
    "x" * 300,
    "ä" * 300,
    ":bug:",
    "$x$",
    "a b",
    "CON",
    "-o",
]


@pytest.mark.parametrize(
    "name", [None, "", " ", "\t", 3, True, [], "a\nb", "a\x1b[31m", "a\0", " a", "a ", "a\u200bb", "\ud800"]
)
def test_a_name_is_visible_text(name: Any) -> None:
    with pytest.raises(UsageError, match="my file: the name .*; (write|leave)"):
        checked_name(name, "my file")


@pytest.mark.parametrize("name", ODD)
def test_any_other_name_is_served(name: str, tmp_path: Path) -> None:
    from benchmark.plain_yaml import written

    (tmp_path / "mine.yaml").write_text(written({"defense": "none", "name": name}), "utf-8")
    assert resolve_defense(str(tmp_path / "mine.yaml")).name == name
    file = tmp_path / f"{file_name('ioi', name)}.json"
    file.with_suffix(".json.part").write_text("there is room for this ending")
    file.write_text("x")
    assert file.resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("name", [None, "", " ", 3, True, ["a"], "a\nb"])
def test_a_spec_without_a_name_that_can_be_seen_is_refused(name: Any, tmp_path: Path) -> None:
    from benchmark.plain_yaml import written

    (tmp_path / "mine.yaml").write_text(written({"defense": "none", "name": name}), "utf-8")
    with pytest.raises(UsageError, match="mine.yaml: name: the name"):
        resolve_defense(str(tmp_path / "mine.yaml"))


def test_a_plain_name_is_its_file_and_other_names_are_other_files() -> None:
    assert file_name("ioi", "sae-clamp") == "ioi__sae-clamp"
    parts = [*ODD, "a", "A", "a__b", "b", "a_b", "a-b", "ioi", "sae-clamp", "x" * 301]
    files = [file_name(*pair) for pair in itertools.product(parts, parts)] + [file_name(part) for part in parts]
    assert len({file.casefold() for file in files}) == len(files), "on a file system that is blind to case, too"
    assert all(len(file.encode()) <= 120 and "/" not in file and not file.startswith(".") for file in files)
    assert file_name("a__b", "c") != file_name("a", "b__c")


@pytest.mark.parametrize("name", ODD)
def test_a_terminal_shows_a_name_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = terminal()
    console.file, console._width = out, 400  # type: ignore[attr-defined]
    table = plain_table("name", "what")
    table.add_row(name, "x")
    console.print(name)
    console.print(table)
    assert out.getvalue().count(name) == 2


def test_a_live_bar_shows_a_name_as_it_is() -> None:
    out = io.StringIO()
    live = Live(Console(file=out, force_terminal=True, width=200))
    live.fitting("ioi", "[/v2] :bug: [v3]")
    live.progress.update(live.bar, tally="[x]")
    live.console.print(live.progress.get_renderable())
    assert "[/v2]" in out.getvalue() and "[v3]" in out.getvalue() and "[x]" in out.getvalue()


def test_an_idea_of_markup_would_eat_it() -> None:
    out = io.StringIO()
    Console(file=out).print("[v2] is [bold]mine[/bold]")
    assert "[bold]" not in out.getvalue(), "what the others are held against"
