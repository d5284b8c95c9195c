"""A real run of the toy suite, and the entry that it becomes; made once a process, where a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark import evaluate
from benchmark.registry import SUITES, TASKS
from benchmark.run import provenance
from benchmark.run.freeze import write_into
from benchmark.run.prepare import opened
from benchmark.run.request import Request
from leaderboard.board.side import side
from leaderboard.bundle.form import Form
from leaderboard.submission.submit import submit
from leaderboard.verification import recomputed
from tests.tiny import ToyTask, suite_file

FORM = Form(title="Toy clamp", organisation="Ada & Co", contact="https://example.org/ada", licence="MIT")
SPEC = "{defense: sae-clamp, strength: 3.0, count: 24, contrast: 0.0, rate_ratio: 0.0}"


def clamp(folder: Path) -> str:
    """A spec file of a clamp, in a folder."""
    (folder / "toy-clamp.yaml").write_text(SPEC)
    return str(folder / "toy-clamp.yaml")


def evaluated(defense: Any, suite: str, folder: Path, **options: Any) -> Path:
    """The directory of a run, of a commit without changes, in a folder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(provenance, "_git", lambda: {"commit": "c" * 40, "dirty": False})
        evaluate(defense, suite=suite, output_dir=folder / "run", **options)
    return folder / "run"


@pytest.fixture(scope="session")
def toy_suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The toy suite with its constants, registered as ``toy``."""
    TASKS.register("toy")(ToyTask)
    path = suite_file(tmp_path_factory.mktemp("toy"))
    write_into(path, {"toy": opened(Request.make({"defense": "none", "suite": str(path)})).measured("toy")})
    SUITES.known["toy"] = path
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recomputed, "RESAMPLES", 100)
        yield "toy"
    TASKS.known.pop("toy", None)
    SUITES.known.pop("toy", None)


@pytest.fixture(scope="session")
def toy_run(toy_suite: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of a clamp on it, of a commit."""
    folder = tmp_path_factory.mktemp("run")
    return evaluated(clamp(folder), toy_suite, folder)


@pytest.fixture(scope="session")
def toy_entry(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The entry that it becomes, with its perturbations."""
    return submit(toy_run, side(str(toy_run)), FORM, tmp_path_factory.mktemp("entries"), perturbations=True)
