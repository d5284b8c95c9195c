"""The report of a run in a real browser: it opens alone, draws, fits a phone, filters, and runs nothing of others."""

from __future__ import annotations

from pathlib import Path

from tests.leaderboard import row_factory as made
from tests.leaderboard.site.browser import Browser
from tests.leaderboard.site.reading import Page
from tests.leaderboard.site.reports import examples, html_of


def opened(tab: Browser, html: str, folder: Path, width: int = 1280, scheme: str = "light") -> None:
    file = folder / "report.html"
    file.write_text(html)
    tab.window(width, scheme=scheme)
    tab.open(file.as_uri())


def test_it_opens_without_a_complaint_or_a_network_and_draws(tab: Browser, html: str, tmp_path: Path) -> None:
    opened(tab, html, tmp_path, scheme="dark")
    assert tab.complaints() == [] and len(tab.requests()) == 1
    figures = tab.run("document.querySelectorAll('figure').length")
    assert figures == tab.run("document.querySelectorAll('figure .plot canvas').length") > 0
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 23)"


def test_a_phone_shows_the_whole_width_also_of_a_hostile_run(
    tab: Browser, html: str, hostile: str, tmp_path: Path
) -> None:
    for text in (html, hostile):
        opened(tab, text, tmp_path, width=390)
        assert tab.complaints() == [] and tab.run("document.documentElement.scrollWidth") <= 390


def test_a_script_that_is_not_ours_does_not_run(tab: Browser, html: str, tmp_path: Path) -> None:
    opened(tab, html.replace("<main", "<script>document.title = 'mine'</script><main", 1), tmp_path)
    assert tab.run("document.title") != "mine" and any("Content Security Policy" in one for one in tab.complaints())


def test_examples_are_filtered_by_outcome_and_by_text(tab: Browser, html: str, tmp_path: Path) -> None:
    opened(tab, html, tmp_path)
    shown = "document.querySelectorAll('.examples tbody tr:not([hidden])').length"
    assert tab.run(shown) == 32
    tab.run("document.querySelector('[value=held]').click()")
    assert tab.run(shown) == 16
    tab.run(
        "(() => { const box = document.querySelector('[name=text]'); box.value = 'e003';"
        "box.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )
    assert (
        tab.run(shown) == 1 and tab.run("document.querySelector('.filters output').textContent") == "1 of 32 examples"
    )


def test_of_many_examples_the_first_are_laid_out_and_all_are_there(tab: Browser, tmp_path: Path) -> None:
    odd = made.row("odd", 0.05, eligible=False, suppressed=False, outcome=None)
    run = made.write_run(tmp_path / "run", [made.cell(made.table([*made.examples([0.01] * 300), odd]))])
    html = html_of(run)
    table = examples(Page("", html))
    assert len(table.rows) == 302 and table.rows[-1][3].text == "not eligible"
    opened(tab, html, tmp_path)
    shown = "document.querySelectorAll('.examples tbody tr:not([hidden])').length"
    assert tab.run(shown) == 200
    tab.run("document.querySelector('.more').click()")
    assert tab.run(shown) == 300
    tab.run("document.querySelector('[value=not_eligible]').click()")
    assert tab.run(shown) == 301
