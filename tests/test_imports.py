"""The direction of imports between the five packages, and how fast the command line answers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "benchmark": {"benchmark"},
    "tasks": {"benchmark", "tasks"},
    "defenses": {"benchmark", "defenses"},
    "attacks": {"benchmark", "attacks"},
    "leaderboard": {"benchmark", "leaderboard"},
}
ENGINE = ("model", "sae", "search", "paper", "cells", "run", "audit")
"""The engine's folders, each above those before it; what lies beside them, like the contracts, is below all."""
KNOWS_EVERYTHING = "benchmark/cli.py"
FRONTS = (KNOWS_EVERYTHING, "benchmark/__init__.py")
LEADERBOARD_NEEDS = {"benchmark.schema", "benchmark.errors", "benchmark.sites"}
HEAVY = ("torch", "transformers", "sae_lens", "pandas", "scipy", "datasets")


def imported(source: str) -> set[str]:
    """Modules that a source imports, wherever in it; ``import_module("...")`` with a literal too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def against_direction(path: str, source: str) -> set[str]:
    package = path.split("/")[0]
    if path == KNOWS_EVERYTHING:
        return set()
    return {m for m in imported(source) if m.split(".")[0] in set(MAY_IMPORT) - MAY_IMPORT[package]}


def against_height(path: str, source: str) -> set[str]:
    """What a file of the engine imports from above itself; names that only type checkers need are not counted."""
    tree = ast.parse(source)
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING")]
    _, folder, *rest = path.split("/")
    above = ENGINE[ENGINE.index(folder) + 1 :] if rest else ENGINE
    return {m for m in imported(ast.unparse(tree)) if m.startswith(tuple(f"benchmark.{name}" for name in above))}


def sources() -> list[str]:
    return [str(p.relative_to(ROOT)) for package in MAY_IMPORT for p in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", sources())
def test_imports_follow_the_direction(path: str) -> None:
    assert not against_direction(path, (ROOT / path).read_text())


def test_an_import_against_the_direction_is_noticed() -> None:
    assert against_direction("benchmark/x.py", "def f():\n    import tasks.ioi") == {"tasks.ioi"}
    assert against_direction("attacks/x.py", "from defenses.none import NoDefense") == {"defenses.none"}
    assert against_direction("tasks/x.py", "import importlib\nimportlib.import_module('attacks.zero')") == {
        "attacks.zero"
    }


@pytest.mark.parametrize("path", [p for p in sources() if p.startswith("benchmark/") and p not in FRONTS])
def test_no_file_of_the_engine_looks_above_itself(path: str) -> None:
    assert path.count("/") == 1 or path.split("/")[1] in ENGINE, "a new folder has to be given its place"
    assert not against_height(path, (ROOT / path).read_text())


def test_a_look_above_is_noticed() -> None:
    low, typed = "from benchmark.run.plan import make", "if TYPE_CHECKING:\n    from benchmark.run.plan import make"
    assert (
        against_height("benchmark/model/x.py", low) == {"benchmark.run.plan"} == against_height("benchmark/x.py", low)
    )
    assert not against_height("benchmark/audit/x.py", low) and not against_height("benchmark/x.py", typed)


def test_the_leaderboard_needs_no_engine() -> None:
    for path in (ROOT / "leaderboard").rglob("*.py"):
        needs = {m for m in imported(path.read_text()) if m.split(".")[0] == "benchmark"}
        assert needs <= LEADERBOARD_NEEDS, path


@pytest.mark.parametrize("call", [["--help"], ["list", "suites"], ["evaluate", "--help"]])
def test_the_command_line_loads_nothing_heavy_to_answer(call: list[str]) -> None:
    program = f"import sys; sys.argv = ['bench', *{call!r}]\nfrom benchmark.cli import main\ntry:\n    main()\n"
    program += f"except SystemExit:\n    pass\nprint('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("LOADED []"), done.stdout[-200:]
