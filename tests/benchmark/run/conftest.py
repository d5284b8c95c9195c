"""The toy suite, saved and frozen once; its task is registered as long as a test of this folder runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmark.registry import TASKS
from benchmark.run.freeze import write_into
from benchmark.run.prepare import opened
from benchmark.run.request import Request
from benchmark.run.runner import Result
from tests.benchmark.run.work_to_do import asked, run
from tests.tiny import ToyTask, suite_file


@pytest.fixture(scope="package")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    TASKS.register("toy")(ToyTask)
    path = suite_file(tmp_path_factory.mktemp("toy"))
    write_into(path, {"toy": opened(Request.make({"defense": "none", "suite": str(path)})).measured("toy")})
    yield str(path)
    TASKS.known.pop("toy", None)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return asked(tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="module")
def alone(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What one process leaves."""
    return run(options, tmp_path_factory.mktemp("alone") / "run")
