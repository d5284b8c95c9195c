"""The site in a real browser: it opens, draws and compares, in any light and width, and does nothing that it is told to
by a submission."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from leaderboard.board.schema import Leaderboard
from leaderboard.site.build import build
from tests.leaderboard.site import boards
from tests.leaderboard.site.browser import SETTLED, Browser

KINDS = ("index", "method", "board", "entry", "comparison")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_from_a_folder_without_a_complaint_or_a_network(
    tab: Browser, places: dict[str, str], kind: str
) -> None:
    tab.open(places[kind])
    root = places["index"].removesuffix("index.html")
    assert tab.complaints() == []
    assert [address for address in tab.requests() if not address.startswith((root, "about:"))] == []


def test_the_site_opens_from_a_web_server(tab: Browser, board: Leaderboard, tmp_path: Path) -> None:
    build(board, tmp_path / "site")
    handler = partial(Silent, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}/"
        for address in boards.places(board, tmp_path / "site").values():
            tab.open(root + address.split("/site/")[1])
            assert tab.complaints() == []
            assert [one for one in tab.requests() if not one.startswith((root, "about:"))] == []
        assert tab.run("document.querySelectorAll('canvas').length") > 0
        server.shutdown()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_without_scripts_everything_can_be_read(tab: Browser, places: dict[str, str]) -> None:
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    tab.load(places["board"])
    assert tab.run("document.querySelectorAll('#board tbody tr:not([hidden])').length") == 4
    assert tab.run("document.querySelectorAll('button, .filters:not([hidden])').length") == 0


def test_plots_are_drawn_from_their_tables(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["entry"])
    figures = tab.run("document.querySelectorAll('figure').length")
    assert figures == tab.run("document.querySelectorAll('figure .plot canvas').length") > 4
    drawn = tab.run(
        """Array.from(drawn, ([figure, plot]) => {
            const rows = Array.from(figure.querySelectorAll("tbody tr")).slice(1);
            const values = rows.map((row) => Number(row.cells[1].dataset.value));
            return figure.dataset.plot === "points" || String(plot.data[2]) === String(values);
        })"""
    )
    assert drawn == [True] * figures
    assert (
        tab.run("Array.from(document.querySelectorAll('.plot'), one => one.getAttribute('role'))") == ["img"] * figures
    )


def test_a_plot_says_what_is_under_the_pointer(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["entry"])
    tab.run("drawn.values().next().value.setCursor({ left: 5, top: 5 })")
    assert tab.run("document.querySelector('.readout').textContent").startswith("eps 0.05: every recovery counts ")


def test_two_defenses_are_compared_by_the_address(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["comparison"])
    tab.wait("document.querySelectorAll('#comparison canvas').length > 0")
    assert tab.run("document.querySelector('#comparison ul').textContent").startswith(
        "A: Wall on organismB: Clamp, tuned"
    )
    headings = tab.run("Array.from(document.querySelectorAll('#comparison h2'), one => one.textContent)")
    assert headings == ["Scores", "Paired differences", "Robust suppression over the budget", "By task"]
    tables = tab.run("document.querySelectorAll('#comparison figure table').length")
    assert tables == tab.run("document.querySelectorAll('#comparison figure canvas').length") == 6
    assert "A - B" in tab.run("document.querySelector('#comparison').textContent")


def test_choosing_another_defense_changes_the_address(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["comparison"])
    tab.run(
        "(() => { const select = document.querySelector('[name=b]'); select.selectedIndex = 3;"
        "select.dispatchEvent(new Event('change', { bubbles: true })); })()"
    )
    tab.wait("document.querySelector('#comparison ul')?.textContent.includes('Steering') === true")
    assert tab.run("location.hash") == "#a=wall__run-1&b=steer__run-1"


def test_an_address_of_nobody_says_so(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["comparison"].split("#")[0] + "#a=nobody&b=clamp__run-1")
    assert "names an entry that this board does not have" in tab.run("document.querySelector('#state').textContent")
    assert tab.complaints() == []


def contrast(tab: Browser, name: str) -> float:
    """Of a colour of the style sheet against the paper, by WCAG 2."""
    return tab.run(
        f"""(() => {{
            const probe = document.body.appendChild(document.createElement("i"));
            const linear = (one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
            const light = (name) => {{
                probe.style.color = `var(${{name}})`;
                const parts = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3);
                const [r, g, b] = parts.map((one) => linear(one / 255));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            }};
            const [high, low] = [light("{name}"), light("--paper")].sort((a, b) => b - a);
            return (high + 0.05) / (low + 0.05);
        }})()"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_the_paper(tab: Browser, places: dict[str, str], scheme: str) -> None:
    tab.window(1280, scheme=scheme)
    tab.open(places["board"])
    assert all(contrast(tab, name) >= 4.5 for name in ("--ink", "--quiet", "--link", "--warn", "--bad"))
    assert all(
        contrast(tab, name) >= 3 for name in ("--line-1", "--line-2", "--line-3", "--line-4", "--whisker", "--focus")
    )


def test_plots_follow_the_light(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["entry"])
    before = tab.run("document.querySelector('canvas').toDataURL()")
    tab.window(1280, scheme="dark")
    tab.run(SETTLED)
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 23)"
    assert tab.run("document.querySelector('canvas').toDataURL()") != before


def test_on_paper_there_is_nothing_to_press(tab: Browser, places: dict[str, str]) -> None:
    tab.window(1280, scheme="dark", media="print")
    tab.open(places["board"])
    assert tab.run("getComputedStyle(document.querySelector('.filters')).display") == "none"
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_shows_the_whole_width(tab: Browser, places: dict[str, str], kind: str) -> None:
    tab.window(390)
    tab.open(places[kind])
    assert tab.run("document.documentElement.scrollWidth") <= 390


def test_what_a_submission_says_does_nothing(tab: Browser, board: Leaderboard, tmp_path: Path) -> None:
    build(boards.hostile(board), tmp_path / "site")
    tab.window(390)
    for address in boards.places(boards.hostile(board), tmp_path / "site").values():
        tab.open(address)
        assert tab.complaints() == []
        assert [one for one in tab.events if one.get("method") == "Page.javascriptDialogOpening"] == []
        assert tab.run("document.documentElement.scrollWidth") <= 390
        assert tab.run("document.querySelectorAll('main img').length") == 0
    assert tab.run("document.querySelectorAll('#comparison canvas').length") > 0
