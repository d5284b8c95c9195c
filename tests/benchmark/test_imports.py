"""Which files a source imports from beside it: an edit of any is seen, however it is imported."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark import imports
from benchmark.code import code_of
from benchmark.contracts.defense import Defense
from benchmark.errors import UsageError
from benchmark.registry import from_file

MINE = """
from benchmark import Defense, FittedDefense

class Mine(Defense):
    def fit(self, fitting):
        {line}
        return FittedDefense({{}})
"""


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file


def mine(folder: Path, line: str = "import helper") -> dict[str, str]:
    """The sources of a defense in ``folder`` that is given by path."""
    file = written(folder / "mine.py", MINE.format(line=line))
    return dict(code_of([from_file(f"{file}:Mine", Defense)]))


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("import helper", "helper.py"),
        ("from helper import shift", "helper.py"),
        ("from parts.inner import shift", "parts/inner.py"),
        ("from parts import inner", "parts/inner.py"),
        ("import parts.inner as p", "parts/__init__.py"),
        ("from .helper import shift", "helper.py"),
        ("from . import helper", "helper.py"),
        ("importlib.import_module('helper')", "helper.py"),
        ("import second", "helper.py"),
        (
            "\n        if 1:\n            try:\n                import helper\n            except ImportError: pass",
            "helper.py",
        ),
    ],
)
def test_an_edited_file_beside_is_seen_however_it_is_imported(tmp_path: Path, line: str, file: str) -> None:
    for name in ("helper.py", "parts/__init__.py", "parts/inner.py", "stranger.py"):
        written(tmp_path / name, "shift = 1\n")
    written(tmp_path / "second.py", "def late():\n    import helper\n")
    first = mine(tmp_path, line)
    assert file in first and "stranger.py" not in first
    written(tmp_path / "stranger.py", "shift = 2\n")
    assert mine(tmp_path, line) == first
    written(tmp_path / file, "shift = 22\n")
    again = mine(tmp_path, line)
    assert {name for name in again if again[name] != first[name]} == {file}


def test_a_file_is_the_same_in_another_folder_and_another_when_it_is_edited(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        written(tmp_path / folder / "helper.py", "shift = 1\n")
    assert mine(tmp_path / "here") == mine(tmp_path / "there")
    assert mine(tmp_path / "here", "import helper, os") != mine(tmp_path / "there")


def test_what_was_installed_or_came_with_python_is_left_out(tmp_path: Path) -> None:
    found = mine(tmp_path, "import json, torch, numpy.linalg")
    assert set(found) == {"mine.py", *(name for name in found if name.split(".")[0] == "benchmark")}
    assert {"benchmark", "benchmark.contracts.defense"} <= set(found)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, str]]]:
    """The sources of a defense in a package on Python's path, which imports from itself and from a module there."""
    lab = tmp_path / "site"
    written(lab / "my_lab" / "__init__.py", "")
    written(lab / "my_lab" / "defense.py", "from .deep import part\nimport my_tools\n" + MINE.format(line="pass"))
    written(lab / "my_lab" / "deep" / "__init__.py", "")
    written(lab / "my_lab" / "deep" / "part.py", "from ..constants import SHIFT\n")
    written(lab / "my_lab" / "constants.py", "SHIFT = 1\n")
    written(lab / "my_tools.py", "x = 1\n")
    monkeypatch.syspath_prepend(lab)

    def found() -> dict[str, str]:
        for name in [n for n in sys.modules if n.startswith(("my_lab", "my_tools"))]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return dict(code_of([importlib.import_module("my_lab.defense").Mine]))

    yield found


@pytest.mark.parametrize("edited", ["my_lab/constants.py", "my_lab/deep/__init__.py", "my_tools.py"])
def test_an_edited_module_of_a_package_is_seen(
    package: Callable[[], dict[str, str]], tmp_path: Path, edited: str
) -> None:
    first = package()
    assert package() == first and {"my_lab.constants", "my_lab.deep.part", "my_tools"} <= set(first)
    written(tmp_path / "site" / edited, "SHIFT = 22\nx = 22\n")
    changed = {name for name, digest in package().items() if first[name] != digest}
    assert changed == {edited.removesuffix(".py").removesuffix("/__init__").replace("/", ".")}


def test_an_edit_behind_the_back_of_a_running_process_is_refused(
    package: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    package()
    kind = sys.modules["my_lab.defense"].Mine
    assert code_of([kind])
    written(tmp_path / "site" / "my_lab" / "constants.py", "SHIFT = 333\n")
    with pytest.raises(UsageError, match="constants.py was changed after Python loaded it.*Start it again"):
        code_of([kind])
    importlib.reload(sys.modules["my_lab.constants"])
    assert code_of([kind])


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "helper.py", "shift = 1\n")
    plain = Path.open

    def refuse(self: Path, *rest: Any, **named: Any) -> Any:
        if self.name == "helper.py":
            raise PermissionError(13, "Permission denied")
        return plain(self, *rest, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageError, match="helper.py cannot be read .Permission denied.*whether it changed"):
        mine(tmp_path)


def test_compiled_code_stands_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "fast_lab" / "__init__.py", "")
    written(tmp_path / "fast_lab" / "user.py", "if 0:\n    from fast_lab import inner\n" + MINE.format(line="pass"))
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / "fast_lab" / f"inner{suffix}").write_bytes(b"\x7fELF one")
    monkeypatch.syspath_prepend(tmp_path)
    kind = importlib.import_module("fast_lab.user").Mine
    first = code_of([kind])["fast_lab.inner"]
    (tmp_path / "fast_lab" / f"inner{suffix}").write_bytes(b"\x7fELF other")
    assert code_of([kind])["fast_lab.inner"] != first


def test_sources_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Path] = []
    plain = imports._imports
    monkeypatch.setattr(imports, "_imports", lambda path, content: parsed.append(path) or plain(path, content))
    written(tmp_path / "helper.py", "shift = 1\n")
    first = mine(tmp_path)
    assert tmp_path / "helper.py" in parsed
    parsed.clear()
    assert mine(tmp_path) == first and tmp_path / "helper.py" not in parsed


def test_finders_are_asked_for_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative import in a module of no package has none; not every finder bears to be asked for it."""

    class Strict:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if not name:
                raise ValueError("an empty name")

    monkeypatch.setattr(sys, "meta_path", [Strict(), *sys.meta_path])
    assert imports.files_of(".helper", imports.OWN) == []
    assert imports.files_of("benchmark.imports", imports.OWN)
