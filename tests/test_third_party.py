"""A third party's package (``tests/test_package``) is a first-class citizen: its verbs, its attacks, its mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "test_package"


def bench(*arguments: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(__file__).parents[1]), *([str(PACKAGE)] if installed else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "140"}
    command = [sys.executable, "-c", "from benchmark.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_its_verb_is_mounted_with_flags_of_the_request_and_its_own() -> None:
    assert bench("census", "--loud", "--suite", "smoke").stdout == "4 tasks!\n"
    helped = bench("census", "--help").stdout
    assert "Registered suite or YAML file" in helped and "Say it loudly." in helped and "--defense" not in helped
    absent = bench("census", installed=False)
    assert absent.returncode == 2 and "No such command" in absent.stderr


def test_a_verb_that_cannot_be_imported_says_so_and_breaks_nothing() -> None:
    listed = bench("--help")
    assert listed.returncode == 0 and "evaluate" in listed.stdout and "Count the tasks of a suite." in listed.stdout
    assert "broken: the command 'ruin' cannot be loaded" in listed.stdout and "nowhere" in listed.stdout
    called = bench("ruin")
    assert called.returncode == 2 and "bench_census.nowhere" in called.stderr and "Traceback" not in called.stderr
    assert bench("census").stdout == "4 tasks\n"


def test_its_attack_runs_beside_ours(tmp_path: Path) -> None:
    arguments = [
        "--suite",
        "smoke",
        "--task",
        "ioi",
        "--limit",
        "4",
        "--no-controls",
        *("-D", "count=12", "-D", "rate_ratio=1.25", "-D", "strength=1.0"),
        "-o",
        str(tmp_path / "run"),
        "--json",
    ]
    done = bench("evaluate", "--attack", "first-axis", *arguments)
    assert done.returncode == 0, done.stderr
    (result,) = [entry["per_task"]["ioi"] for entry in json.loads(done.stdout)["suites"][0]["entries"]]
    assert {cell["attack"] for cell in result["cells"]} == {"first-axis"}, (
        "a diagnostic threat model has no wrong target"
    )


@pytest.mark.parametrize("name", ["commands", "attacks"])
def test_its_entry_points_are_those_of_its_pyproject(name: str) -> None:
    import configparser
    import tomllib

    made = configparser.ConfigParser()
    made.read(PACKAGE / "bench_census.dist-info" / "entry_points.txt")
    meant = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["entry-points"]
    assert dict(made[f"recoverybench.{name}"]) == meant[f"recoverybench.{name}"]
