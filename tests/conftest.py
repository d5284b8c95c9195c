"""One thread a test process: the models here are too small for more, and equal sums need an equal order; and a cache of
its own, so that no test sees what another run measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmark.cache import PLACE

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(PLACE, str(tmp_path_factory.mktemp("cache")))
        yield
