"""The direction of imports: between packages, between folders, without a circle; and how fast the command answers."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import entry_points
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
ENGINE = ("contracts", "model", "sae", "readouts", "search", "measure", "threats", "run", "published")
"""The engine's folders, each above those before it; what lies beside them, like the registry, is below all but the
contracts."""
CONTRACTS_NEED = {"benchmark.contracts", "benchmark.sites", "benchmark.errors", "benchmark.names"}
FACADE = "benchmark"
HEAVY = ("torch", "transformers", "sae_lens", "lm_eval", "pandas", "scipy", "datasets")
SLOW = ("pydantic", "yaml", "rapidfuzz")
"""Together they take longer to import than all the rest of ``bench --help``, which can do without."""
Graph = Mapping[str, set[str]]


def imported(source: str) -> set[str]:
    """Modules that a source imports, wherever in it, also for type checkers only; literals of ``import_module`` too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def modules() -> dict[str, str]:
    """Dotted name -> source of every product file."""
    paths = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p.read_text() for p in paths}


def graph(sources: Mapping[str, str]) -> Graph:
    """Module -> modules of the project that it imports."""
    return {name: {m for m in imported(source) if m in sources} - {name} for name, source in sources.items()}


def folders(found: Graph) -> Graph:
    """The same between folders; a file that lies beside folders is one by itself."""
    inner = {name.rpartition(".")[0] for name in found}

    def folder(name: str) -> str:
        return name if name in inner else name.rpartition(".")[0] if name.count(".") > 1 else name

    made: dict[str, set[str]] = {}
    for name, needs in found.items():
        made.setdefault(folder(name), set()).update(folder(n) for n in needs)
    return {name: needs - {name} for name, needs in made.items()}


def circle(found: Graph) -> list[str]:
    """Some circle; empty: there is none."""
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def wrong_way(sources: Mapping[str, str]) -> list[tuple[str, str]]:
    """(file, import) where a package imports one that it must not, or a folder of the engine one above itself."""
    found = []
    for name, needs in graph(sources).items():
        package, *rest = name.split(".")
        allowed = MAY_IMPORT[package]
        found += [(name, n) for n in needs if n.split(".")[0] not in allowed]
        if package == "benchmark" and name != FACADE:
            folder = rest[0] if rest[0] in ENGINE else None
            above = ENGINE[ENGINE.index(folder) + 1 :] if folder else ENGINE[1:]
            beside = () if rest[0] in (*ENGINE, "cli", "catalogue") else above
            found += [
                (name, n)
                for n in needs
                if n.split(".")[1:2] and n.split(".")[1] in (beside or above if folder else beside)
            ]
    return found


SOURCES = modules()


def test_packages_and_folders_import_in_one_direction() -> None:
    assert not wrong_way(SOURCES)
    for name in (n for n in SOURCES if n.startswith("benchmark.contracts")):
        needs = {m for m in imported(SOURCES[name]) if m in SOURCES}
        assert all(n.startswith(tuple(CONTRACTS_NEED)) for n in needs), name


def test_there_is_no_circle_of_files_or_folders() -> None:
    whole = graph(SOURCES)
    assert not circle(whole)
    assert not circle(folders(whole))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("benchmark.model.x", "from benchmark.run.plan import Cell"),
        ("benchmark.x", "from benchmark.run.plan import Cell"),
        ("benchmark.measure.x", "if TYPE_CHECKING:\n    from benchmark.threats import vectors"),
        ("tasks.x", "def late():\n    import defenses.none"),
        ("benchmark.run.x", "import_module = 0\nx.import_module('leaderboard.commands')"),
    ],
)
def test_a_look_the_wrong_way_is_noticed(name: str, source: str) -> None:
    assert {found[0] for found in wrong_way({**SOURCES, name: source})} == {name}


def test_a_circle_is_noticed_wherever_the_import_stands() -> None:
    late = {**SOURCES, "benchmark.sites": SOURCES["benchmark.sites"] + "\ndef f():\n    import benchmark.spec\n"}
    assert "benchmark.sites" in circle(graph(late))
    across = {
        **SOURCES,
        "defenses.x.one": "import defenses.y.one",
        "defenses.x.two": "",
        "defenses.y.one": "",
        "defenses.y.two": "import defenses.x.two",
    }
    assert not circle(graph(across)) and set(circle(folders(graph(across)))) == {"defenses.x", "defenses.y"}


def named(source: str) -> set[str]:
    """Every string that stands in a source, but for sentences."""
    found = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {text for text in found if " " not in text}


@pytest.mark.parametrize(
    ("group", "home"),
    [("threats", "benchmark.threats"), ("tasks", "tasks"), ("defenses", "defenses"), ("attacks", "attacks")],
)
def test_no_string_names_a_registered_thing_outside_its_house(group: str, home: str) -> None:
    """Attacks name the threat model that they are made for. Words that mean other things too are left out."""
    meant = {e.name for e in entry_points(group=f"recoverybench.{group}")} - {
        "none",
        "zero",
        "refusal",
        "probe",
        "recovery",
    }
    homes = (home, "attacks") if group == "threats" else (home, "benchmark.published.recovery")
    strangers = [(name, text) for name, source in SOURCES.items() for text in named(source) & meant]
    assert meant and not [found for found in strangers if not found[0].startswith(homes)]


def test_a_threat_model_is_spoken_of_in_its_own_house() -> None:
    for name in (e.name for e in entry_points(group="recoverybench.threats")):
        homes = [module for module, source in SOURCES.items() if re.search(rf"(?<![.\w]){name}", source)]
        assert 0 < len(homes) <= 5 and all(h.startswith(("benchmark.threats", "attacks")) for h in homes), (name, homes)


def test_nobody_asks_what_a_readout_or_a_threat_model_is() -> None:
    asked = []
    for name, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                kinds = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                asked += [(name, k) for k in kinds if k in ("Choices", "Continuation", "Probe", "Threat", "Readout")]
    assert not asked


@pytest.mark.parametrize(
    ("call", "without"), [(["--help"], HEAVY + SLOW), (["list", "suites"], HEAVY), (["evaluate", "--help"], HEAVY)]
)
def test_the_command_line_loads_nothing_heavy_to_answer(call: list[str], without: tuple[str, ...]) -> None:
    program = f"import sys; sys.argv = ['bench', *{call!r}]\nfrom benchmark.cli import main\ntry:\n    main()\n"
    program += f"except SystemExit:\n    pass\nprint('LOADED', [m for m in {without!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("LOADED []"), done.stdout[-200:]
