"""Whatever needs the model is done in a process of its own, which may be anybody's code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmark.errors import BenchError
from leaderboard.verification import live
from leaderboard.verification.again import Found, read_found
from leaderboard.verification.live import Asked


def ask(asked: Asked, folder: Path) -> Found:
    """What the process found; its tables are in the folder."""
    (folder / "asked.json").write_text(asked.model_dump_json(), "utf-8")
    code = run(folder / "asked.json", folder)
    try:
        return read_found(folder)
    except BenchError:
        failed = f"the process in which the defense is run ended with {code} and left nothing"
        return Found(failed=failed, same_code=False, tasks={}, sampled=[], environment={})


def run(asked: Path, folder: Path) -> int:
    """Do what is asked in a process of its own, and wait for its exit code."""
    command = [sys.executable, "-m", live.__name__, str(asked), str(folder)]
    return subprocess.run(command, check=False).returncode
