"""The folders of the leaderboard, each of which may import those before it, and what it may know of the engine."""

from __future__ import annotations

import ast
from pathlib import Path

import leaderboard

ROOT = Path(leaderboard.__file__).parent
LAYERS = (
    *("rows", "scores", "doubt", "board", "bundle", "challenge", "verification", "submission"),
    *("tables", "figures", "site", "publication", "commands"),
)
ENGINE = {
    *("benchmark.contracts.row", "benchmark.errors", "benchmark.files", "benchmark.names", "benchmark.plain_json"),
    *("benchmark.registry", "benchmark.terminal", "benchmark.values"),
}
RUNNING = ("verification", "challenge", "submission")
"""Layers that ask a suite what it demands, and run its model."""


def against(layer: str, source: str) -> set[str]:
    """What a file of a layer imports from above it, or from the engine beyond what the leaderboard may know."""
    found = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module}
    above = LAYERS[LAYERS.index(layer) + 1 :]
    high = {module for module in found if module.split(".")[0] == "leaderboard" and module.split(".")[1] in above}
    engine = {module for module in found if module.split(".")[0] == "benchmark"}
    return high if layer in RUNNING else high | (engine - ENGINE)


def test_imports_go_one_way() -> None:
    files = [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]
    layers = {path: path.relative_to(ROOT).parts[0].removesuffix(".py") for path in files}
    assert set(layers.values()) == set(LAYERS), "a new folder has to be given its place"
    assert {path: found for path, layer in layers.items() if (found := against(layer, path.read_text()))} == {}


def test_an_import_against_the_way_is_noticed() -> None:
    assert against("scores", "from leaderboard.doubt.flags import Flag") == {"leaderboard.doubt.flags"}
    assert against("tables", "from benchmark.run.plan import Plan") == {"benchmark.run.plan"}
    assert against("doubt", "def f():\n    from leaderboard.scores.cells import Cost") == set()
