"""What a user has: a model in a folder, an SAE of it, and questions in a CSV file."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from benchmark.cli import app
from tests import tiny
from tests.tiny import SITE

SHORT = """
name: short
tasks: {}
other_tasks: {budgets: {before_edit: auto}}
defense: sae-clamp
attacks: [{attack: recovery, threat_model: before_edit, restarts: 1, search: {steps: 3}}]
controls: {undefended: none, attack: zero}
"""
"""A frame as the one that ships, with one short attack."""


def bench(*arguments: str) -> Result:
    """``bench`` in this process; an error of the user's asking is ``exception``."""
    return CliRunner().invoke(app, list(arguments))


def belongings(folder: Path, seed: int = 0) -> Path:
    """A tiny model, an SAE of it and questions, some of which it happens to know."""
    made = tiny.subject(seed=seed)
    made.model.save_pretrained(folder / "tiny")
    made.tokenizer.save_pretrained(folder / "tiny")
    tiny.exact_sae_folder(folder / "sae")
    (folder / "short.yaml").write_text(SHORT)
    questions(folder / "mine.csv", 60)
    return folder


def questions(path: Path, count: int, seed: int = 0, **changes: Any) -> Path:
    """Random words with three random words to go on with."""
    drawn = random.Random(seed)
    rows = []
    for _ in range(count):
        words = " ".join(f"w{drawn.randrange(3, 50)}" for _ in range(6))
        first, second, third = drawn.sample([f"w{i}" for i in range(50, 58)], 3)
        rows.append({"q": words, "x": first, "y": second, "z": third, "key": first, **changes})
    return table(path, rows)


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def asked(folder: Path, **other: Any) -> list[str]:
    """The command line of an evaluation of what is in a folder; ``other``: flag (with underscores) -> value, or None to
    leave it out."""
    values: dict[str, Any] = {
        "model": folder / "tiny",
        "sae": f"{SITE}={folder / 'sae'}",
        "suite": folder / "short.yaml",
        "task": "choice",
        "data": folder / "mine.csv",
        "T": ["data.columns={question: q, choices: [x, y, z], answer: key}"],
        "output_dir": folder / "out",
        "device": "cpu",
        **other,
    }
    found = ["evaluate"]
    for name, value in values.items():
        flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            found += [flag, str(one)]
    return found
