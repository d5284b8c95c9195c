"""One thread a test process, and a process that it begins: the models here are too small for more, equal sums need an
equal order, and threads of several processes wait for each other where cores are fewer; and a cache of its own, so that
no test sees what another run measured."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from benchmark.cache import PLACE

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(PLACE, str(tmp_path_factory.mktemp("cache")))
        yield


LONGEST = (
    "benchmark/run/test_far_device.py",
    "adversarial/test_search.py",
    "chaos/test_chaos.py",
    "adversarial/test_fits.py",
    "test_embedded.py",
    "benchmark/run/test_runs.py",
    "test_cli.py",
    "test_types.py",
    "tasks/suites/test_published.py",
    "test_third_party.py",
    "benchmark/run/test_failures.py",
    "adversarial/test_destroyer.py",
)
"""Files that take longest. A file is run whole by one process: one of these, begun last, would be waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; all others in their order."""

    def place(item: pytest.Item) -> int:
        file = item.path.as_posix()
        return next((i for i, name in enumerate(LONGEST) if file.endswith(f"/tests/{name}")), len(LONGEST))

    items.sort(key=place)
