"""A filled cache of the hub for these tests, and no connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from tests.tasks.suites import hub


@pytest.fixture(scope="session")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    hub.fill(folder)
    return folder


@pytest.fixture(autouse=True)
def _offline(cached: Path) -> Iterator[None]:
    from datasets import config

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cached))
        patched.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        # or data of another session would be read: made-up commits stay the same, and what they stand for does not
        patched.setattr(config, "HF_DATASETS_CACHE", cached / "datasets")
        yield
