"""The command line as a user meets it: what it prints, where, and how it exits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import bench as bench_here

ROOT = Path(__file__).parents[1]


GIVEN = ("-D", "count=12", "-D", "rate_ratio=1.25", "-D", "strength=1.0")
"""All that the clamp would calibrate, where it is not about that."""


def bench(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from benchmark.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment())


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "defencez"], "there are tasks, defenses, attacks, threats, judges"),
        (["show", "sea-clamp"], "Did you mean 'sae-clamp'"),
        (["evaluate", "--defense", "sea-clamp"], "Did you mean 'sae-clamp'"),
        (["evaluate", "--defense", "nowhere.py:Mine"], "there is no file"),
        (["evaluate", "--defense", "nowhere.yaml"], "there is no spec file"),
        (["evaluate", "--batch-size", "many"], "write auto or a number"),
        (["evaluate", "-D", "count"], "write key=value"),
        (["evaluate", "-D", "cuont=3"], "unknown setting cuont"),
        (["evaluate", "-D", "mode=hard"], "set_if_active"),
        (["evaluate", "--suite", "nowhere.yaml"], "no suite file"),
        (["evaluate", "--limit", "0"], "limit"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = bench_here(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kind", ["tasks", "defenses", "attacks", "threats", "judges", "suites", "protocols", "sources"]
)
def test_lists_are_json_on_request_and_everything_in_them_loads(kind: str) -> None:
    rows = json.loads(bench_here("list", kind, "--json").stdout)
    assert rows and all(row["status"] == "ok" and row["summary"] for row in rows)


def test_show_tells_every_setting_with_default_and_meaning() -> None:
    shown = json.loads(bench_here("show", "sae-clamp", "--json").stdout)
    settings = {s["name"]: s for s in shown["settings"]}
    assert settings["retain_share"]["default"] == 0.99 and "retain set" in settings["retain_share"]["meaning"]


def evaluate_one(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return bench(
        "evaluate",
        "--suite",
        "smoke",
        "--task",
        "ioi",
        "--attack",
        "recovery",
        "--limit",
        "6",
        "-o",
        str(folder),
        *GIVEN,
        *more,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("cli") / "run"
    return folder, evaluate_one(folder)


def test_an_evaluation_prints_tables_and_leaves_a_run(finished: Any) -> None:
    folder, done = finished
    assert done.returncode == 0, done.stderr
    assert "recovery" in done.stdout and "suppressed" in done.stdout and str(folder) in done.stdout
    assert {"run.json", "plan.json", "cells", "fits", "events.jsonl", "private", "leaderboard.json"} >= {
        p.name for p in folder.iterdir() if not p.name.startswith(".") and p.name != "figures"
    }
    assert (folder / "private").stat().st_mode & 0o777 == 0o700
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"


def test_leaderboard_json_obeys_its_published_schema(finished: Any) -> None:
    import jsonschema

    schema = json.loads((ROOT / "leaderboard" / "board" / "leaderboard.schema.json").read_text())
    board = json.loads((finished[0] / "leaderboard.json").read_text())
    jsonschema.validate(board, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**board, "surprise": 1}, schema)


def test_the_same_command_again_runs_nothing_and_shows_the_same(finished: Any) -> None:
    folder, first = finished
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "cells").iterdir()}
    again = evaluate_one(folder, "--json")
    assert again.returncode == 0 and before == {p.name: p.stat().st_mtime_ns for p in (folder / "cells").iterdir()}
    assert json.loads(again.stdout)["suites"][0]["entries"], "with --json standard output is JSON and nothing else"


def test_no_text_of_a_prompt_is_outside_private(finished: Any) -> None:
    from tasks.organism.source import records

    canaries = [r["prompt"] for r in records("ioi") if r["split"] == "test"][:20]
    for path in finished[0].rglob("*"):
        if path.is_file() and "private" not in path.parts:
            content = path.read_bytes()
            assert not any(c.encode() in content for c in canaries), path


def test_a_word_is_printed_before_anything_slow_is_imported(tmp_path: Path) -> None:
    program = (
        "import os, sys, rich.console\n"
        "def first(*words, **_):\n"
        '    sys.__stdout__.write(f\'{words} {[m for m in ("torch", "transformers") if m in sys.modules]}\')\n'
        "    sys.__stdout__.flush()\n"
        "    os._exit(0)\n"
        "rich.console.Console.print = first\n"
        "from benchmark.cli import main; main()"
    )
    arguments = ["evaluate", "--suite", "smoke", "-o", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment()
    )
    assert "loading the model" in done.stdout and done.stdout.endswith("[]"), done.stderr


BROKEN = """
from benchmark import Defense
class Broken(Defense):
    name = "broken-[v2]"
    def fit(self, fitting):
        raise RuntimeError("an [honest] bug")
"""


def test_what_failed_is_told_at_the_end_with_where_to_read_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    arguments = ("-d", f"{tmp_path / 'mine.py'}:Broken", "--no-controls", "--task", "ioi", "--attack", "zero")
    done = bench_here("evaluate", "--suite", "smoke", "--limit", "2", *arguments, "-o", str(tmp_path / "run"))
    last = done.stdout.rstrip().splitlines()[-3:]
    assert done.returncode == 3 and "1 cells failed" in last[0], done.stdout + done.stderr
    assert "an [honest] bug" in last[1] and "exit code 3" in last[2] and "events.jsonl" in last[2]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["failed_cells"] == 1


def test_figures_are_drawn_beside_the_run_unless_told_otherwise(finished: Any, tmp_path: Path) -> None:
    done = bench_here("figures", str(finished[0]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir()) and any((finished[0] / "figures").iterdir())


def test_ctrl_c_exits_130_and_the_run_can_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from benchmark.cli import main; main()"]
    few = ["--limit", "4", "--no-controls", "--attack", "recovery", *GIVEN]
    arguments = ["evaluate", "--suite", "smoke", "--task", "ioi", *few, "-o", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # a shell lets what it runs in the background ignore Ctrl-C, and that is inherited
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    cells = tmp_path / "run" / "cells"
    while process.poll() is None and not (cells.is_dir() and any(cells.iterdir())):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and "repeat the command to resume" in errors
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    done = bench_here(*arguments)
    assert done.returncode == 0 and json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "complete"


def test_validate_shows_promises_and_fails_for_a_broken_defense(tmp_path: Path) -> None:
    ioi = ("--suite", "smoke", "--task", "ioi")
    kept = bench_here("validate", "--defense", "sae-clamp", *ioi, *GIVEN, "--json")
    assert kept.returncode == 0 and {r["promise"] for r in json.loads(kept.stdout)} >= {"finite", "idempotence gap"}
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from benchmark import Defense, FittedDefense, Site\n"
        "class Noise(Defense):\n"
        "    def fit(self, fitting):\n"
        "        return FittedDefense({Site(2): lambda h, where: h + torch.randn_like(h)})\n"
    )
    broken = bench_here("validate", "--defense", f"{tmp_path / 'mine.py'}:Noise", *ioi)
    assert broken.returncode == 1 and "deterministic" in broken.stdout
