"""A short run that two workers can share: two defenses on a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark import evaluate
from benchmark.run.runner import Result
from tests.benchmark.run.equal_rows import CHANGING

SUITE = """
name: short
extends: smoke
attacks: [{attack: recovery, threat_model: before_edit, restarts: 1, search: {steps: 3}}]
"""
CLAMP = "{defense: sae-clamp, name: %s, count: 12, rate_ratio: 1.25, strength: %s}"


def asked(folder: Path) -> dict[str, Any]:
    """Options of the run; its suite and specs are files that any process can read."""
    (folder / "short.yaml").write_text(SUITE)
    specs = []
    for name, strength in {"soft": 0.5, "hard": 1.0}.items():
        specs.append(folder / f"{name}.yaml")
        specs[-1].write_text(CLAMP % (name, strength))
    return {
        "defense": [str(spec) for spec in specs],
        "suite": str(folder / "short.yaml"),
        "tasks": ["ioi"],
        "limit": 8,
        "controls": False,
        "device": "cpu",
        "batch_size": 64,
    }


def run(options: dict[str, Any], folder: Path, **more: Any) -> Result:
    return evaluate(output_dir=folder, **{**options, **more})


def same_bytes(a: Result, b: Result) -> None:
    """Every value of every row, but seconds and memory."""
    kept = [name for name in a.rows.column_names if name not in CHANGING]
    assert a.rows.num_rows and a.rows.select(kept).equals(b.rows.select(kept))


DEADLY = """
import os
import signal
from pathlib import Path

from defenses.sae_clamp import SaeClamp

MARK = Path(__file__).with_suffix(".mark")


class Deadly(SaeClamp):
    \"\"\"Ends the process that fits it: the first time, or always. Its mark: how long its threads spin.\"\"\"

    name = "deadly"
    always: bool = False

    def fit(self, fitting):
        if self.always or not MARK.exists():
            MARK.write_text(os.environ.get("GOMP_SPINCOUNT", ""))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(fitting)
"""


def deadly(folder: Path, *, always: bool) -> str:
    """A spec of it."""
    file = folder / "deadly.py"
    file.write_text(DEADLY.replace("always: bool = False", f"always = {always}"))
    spec = folder / "deadly.yaml"
    spec.write_text(f"{{defense: '{file}:Deadly', count: 12, rate_ratio: 1.25, strength: 1.0}}")
    return str(spec)
