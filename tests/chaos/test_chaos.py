"""The short form of the campaign: some kills, and each other fault once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_fault_loses_or_changes_a_row() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--short"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill -9") >= 2 and " 0 failed" in done.stdout
