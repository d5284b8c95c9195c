"""A class of a file that cannot be served says why, whatever its code does; it ends nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.contracts.defense import FittedDefense
from benchmark.errors import UsageError
from benchmark.registry import DEFENSES, from_file
from benchmark.spec import resolve_attack, resolve_defense, resolve_task
from tests.benchmark.test_registry import install

HEAD = """
from __future__ import annotations
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from torch import Tensor, zeros
from benchmark import Defense, FittedDefense
from defenses.sae_clamp import SaeClamp
"""
FIT = "    def fit(self, fitting):\n        return FittedDefense({})\n"


def mine(folder: Path, body: str, name: str = "Mine") -> str:
    (folder / "mine.py").write_text(HEAD + body)
    return f"{folder / 'mine.py'}:{name}"


def data(field: str, post_init: str = "pass") -> str:
    """The text of a dataclass with a field."""
    made = f"@dataclass(frozen=True)\nclass Mine(Defense):\n    {field}\n"
    return f"{made}    def __post_init__(self):\n        {post_init}\n{FIT}"


CASES = {
    "abstract": ("class Mine(Defense):\n    pass\n", {}, "Mine is abstract: it lacks fit"),
    "arguments": (
        f"class Mine(Defense):\n    def __init__(self, k):\n        pass\n{FIT}",
        {},
        "Mine cannot be made: TypeError",
    ),
    "init raises": (f"class Mine(Defense):\n    def __init__(self):\n        1 / 0\n{FIT}", {}, "ZeroDivisionError"),
    "init exits": (f"class Mine(Defense):\n    def __init__(self):\n        sys.exit(0)\n{FIT}", {}, "SystemExit: 0"),
    "settings": (f"class Mine(Defense):\n{FIT}", {"k": 1}, "takes no settings, but got k"),
    "post init": (
        data("k: int = 1", "raise KeyError('k')"),
        {},
        "Mine cannot be made: KeyError: 'k'",
    ),
    "post init, a value": (
        data("k: int = 1", "raise ValueError('k is bad')"),
        {},
        "k is bad",
    ),
    "required": (data("k: int"), {}, "k: Field required"),
    "tensor": (
        data("w: Tensor = zeros(2)"),
        {"w": [1.0, 2.0]},
        "w: it can be set from Python only",
    ),
    "forward": (
        "if TYPE_CHECKING:\n    from elsewhere import Thing\n" + data("t: Thing | None = None"),
        {},
        "the types of the fields of Mine cannot be read",
    ),
    "name": (f"class Mine(Defense):\n    name = 3\n{FIT}", {}, "the name is 3, which is no text"),
    "no name": (f"class Mine(Defense):\n    name = ' '\n{FIT}", {}, "is empty; write one"),
    "exits": ("sys.exit(0)\n", {}, "cannot be imported: SystemExit: 0 (line 9)"),
    "raises": ("x = 1\nraise RuntimeError('no licence')\n", {}, "RuntimeError: no licence (line 10)"),
    "syntax": ("def broken(:\n", {}, "SyntaxError"),
    "not UTF-8": ("", {}, "has no Defense named 'Mine'; it has: none"),
    "recursion": ("def f():\n    f()\nf()\n", {}, "RecursionError"),
    "wicked": ("class E(Exception):\n    def __str__(self):\n        1 / 0\nraise E\n", {}, "(it cannot be shown)"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_class_that_cannot_be_made_says_why(case: str, tmp_path: Path) -> None:
    body, options, message = CASES[case]
    before = set(sys.modules)
    with pytest.raises(UsageError) as caught:
        resolve_defense(mine(tmp_path, body), options)
    assert message in str(caught.value) and "mine.py" in str(caught.value)
    if "imported" in message:
        assert not any("recoverybench_file" in name for name in set(sys.modules) - before), "nothing half is left"


def test_the_line_of_a_syntax_error_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 9"):
        resolve_defense(mine(tmp_path, "def broken(:\n"))


def test_a_tensor_may_stay_as_the_class_has_it(tmp_path: Path) -> None:
    body = f"@dataclass(frozen=True)\nclass Mine(Defense):\n    w: Tensor = zeros(2)\n    k: int = 1\n{FIT}"
    made: Any = resolve_defense(mine(tmp_path, body), {"k": 3}).defense
    assert made.k == 3 and made.w.shape == (2,)


def test_a_class_that_is_only_imported_there_is_not_the_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it has: Mine; that is only imported there"):
        from_file(mine(tmp_path, f"class Mine(Defense):\n{FIT}", "SaeClamp"), DEFENSES.get("none").__mro__[1])
    assert resolve_defense(mine(tmp_path, f"class Mine(Defense):\n{FIT}")).name == "Mine"


def test_a_file_without_a_class_is_asked_which(tmp_path: Path) -> None:
    path = mine(tmp_path, f"class Mine(Defense):\n{FIT}class Other(Mine):\n    pass\n").removesuffix(":Mine")
    for resolve, has in ((resolve_defense, "Mine, Other"), (resolve_attack, "none"), (resolve_task, "none")):
        with pytest.raises(UsageError, match=f"say which class, .*mine.py:NAME; .*it has: {has}"):
            resolve(path)


def test_ctrl_c_while_a_file_is_imported_is_not_its_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        resolve_defense(mine(tmp_path, "raise KeyboardInterrupt\n"))


def test_an_entry_point_that_exits_is_listed_as_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"leaving": "leaving:Mine"}, leaving="import sys\nsys.exit(0)\n")
    with pytest.raises(UsageError, match="'leaving' cannot be loaded: SystemExit: 0"):
        DEFENSES.get("leaving")
    DEFENSES.broken.pop("leaving")


def test_bench_says_that_a_file_ends_the_process(tmp_path: Path) -> None:
    code = "from benchmark.cli import main; main()"
    arguments = ["plan", "-t", "ioi", "-d", mine(tmp_path, "sys.exit(0)\n")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and "SystemExit" in done.stderr and "Traceback" not in done.stderr


def test_a_defense_needs_no_registered_name_from_python() -> None:
    from benchmark.contracts.defense import Defense
    from benchmark.run.prepare import _called

    class Nameless(Defense):
        def fit(self, fitting: Any) -> FittedDefense:
            return FittedDefense({})

    assert _called(Nameless()) == "Nameless"
    Nameless.name = "\n"  # type: ignore[misc]
    with pytest.raises(UsageError, match="empty"):
        _called(Nameless())
