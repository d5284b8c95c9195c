"""The types hold. A test like others, so that the processes that run them share this minute too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pyright(*files: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyright", *files], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_the_types_of_everything_hold() -> None:
    done = pyright()
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_type_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from benchmark.sites import Site\n\nnumber: int = Site.parse('blocks.0.hook_resid_pre')\n")
    done = pyright(str(wrong))
    assert done.returncode == 1 and '"Site" is not assignable to "int"' in done.stdout
