"""The toy suite, saved once; its task is registered as long as a test of this folder runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmark.registry import TASKS
from tests.tiny import ToyTask, suite_file


@pytest.fixture(scope="package")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    TASKS.register("toy")(ToyTask)
    yield str(suite_file(tmp_path_factory.mktemp("toy")))
    del TASKS.known["toy"]
