"""The types hold. A test like others, so that the processes that run them share this minute too."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_types_of_everything_hold_and_a_wrong_one_is_found(tmp_path: Path) -> None:
    """One run for both, since it is a long one: all that is there, and a file with an error."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from benchmark.sites import Site\n\nnumber: int = Site.parse('blocks.0.hook_resid_pre')\n")
    everything = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]["include"]
    command = [sys.executable, "-m", "pyright", *everything, str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert '"Site" is not assignable to "int"' in done.stdout
    assert "\n1 error, 0 warnings" in done.stdout, done.stdout + done.stderr
