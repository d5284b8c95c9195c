"""A board, the files of its site, and a browser that looks at them; made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderboard.board.schema import Leaderboard
from leaderboard.site.build import build, pages
from tests.leaderboard.site import boards, reports
from tests.leaderboard.site.browser import MISSING, Browser, browser, chromium
from tests.leaderboard.site.reading import Page, read


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    return boards.board(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def files(board: Leaderboard) -> dict[str, bytes]:
    """All files of the site by path."""
    return pages(board)


@pytest.fixture(scope="session")
def site(files: dict[str, bytes]) -> dict[str, Page]:
    """The pages by path, read."""
    return read(files)


@pytest.fixture(scope="session")
def places(board: Leaderboard, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a page of each kind."""
    folder = tmp_path_factory.mktemp("plain") / "site"
    build(board, folder)
    return boards.places(board, folder)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory."""
    return reports.plain(tmp_path_factory.mktemp("reported") / "run")


@pytest.fixture(scope="session")
def html(reported: Path) -> str:
    """Its report."""
    return reports.html_of(reported)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a run that means harm."""
    return reports.html_of(reports.hostile(tmp_path_factory.mktemp("hostile") / "run"))


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip(MISSING)
    with browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def tab(started: Browser) -> Browser:
    """The browser, as it usually is."""
    started.window(1280)
    started.send("Emulation.setScriptExecutionDisabled", value=False)
    return started
