"""Entries to publish, and a hub to publish them to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from leaderboard.publication import publication as module
from tests.leaderboard.publication.hub import TOKEN, Hub
from tests.leaderboard.verification.tampering import copied


@pytest.fixture
def entries(toy_entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one entry; scores of few resamples are enough."""
    monkeypatch.setattr(module.publication, "__kwdefaults__", {"artifacts": False, "resamples": 20})
    copied(toy_entry, tmp_path / "entries")
    return tmp_path / "entries"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The only hub that can be reached, with a token for it."""
    served = Hub()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", served.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    disable_progress_bars()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    yield served
    enable_progress_bars()
    huggingface_hub.close_session()
    served.shutdown()
    thread.join()
    served.server_close()
