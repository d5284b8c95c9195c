"""The table of a suite in a real browser: it sorts and filters, by mouse and keyboard, whatever its length."""

from __future__ import annotations

import json
from pathlib import Path

from leaderboard.board.schema import Leaderboard
from leaderboard.site.addresses import suite_page
from leaderboard.site.build import board_page, static_files
from leaderboard.site.environment import environment
from leaderboard.site.folder import replace
from tests.leaderboard.site import boards
from tests.leaderboard.site.browser import SETTLED, Browser


def column(tab: Browser, place: int) -> list[str | None]:
    """What the rows that are shown sort by, in a column; null: nothing."""
    cells = f"Array.from(document.querySelectorAll('#board tbody tr:not([hidden])'), row => row.cells[{place}])"
    return tab.run(f"{cells}.map(cell => key(cell))")


def show_controls(tab: Browser) -> None:
    tab.run("document.querySelector('[value=control]').click()")


def test_every_column_sorts_both_ways_with_what_is_missing_last(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["board"])
    show_controls(tab)
    heads = tab.run("document.querySelectorAll('#board thead th').length")
    assert heads == 16
    for place in range(heads):
        head = f"document.querySelectorAll('#board thead th')[{place}]"
        for _ in range(2):
            tab.run(f"{head}.querySelector('button').click()")
            found = column(tab, place)
            known = [one for one in found if one is not None]
            assert found == known + [None] * (len(found) - len(known)) and len(found) == 4
            falling = tab.run(f"{head}.getAttribute('aria-sort')") == "descending"
            assert known == sorted(
                known, key=lambda one: str(one).lower() if isinstance(one, str) else one, reverse=falling
            )
        others = tab.run(
            "document.querySelectorAll('#board [aria-sort=ascending], #board [aria-sort=descending]').length"
        )
        assert others == 1


def test_scores_sort_best_first_and_ranks_too(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["board"])
    for place, direction in ((0, "ascending"), (3, "descending")):
        tab.run(f"document.querySelectorAll('#board thead button')[{place}].click()")
        assert tab.run(f"document.querySelectorAll('#board th')[{place}].getAttribute('aria-sort')") == direction


def test_a_column_sorts_by_keyboard_and_keeps_the_focus(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["board"])
    tab.run("document.querySelectorAll('#board thead button')[2].focus()")
    tab.press("Tab")
    tab.press("Enter", "\r")
    assert tab.run("document.activeElement.parentElement.getAttribute('aria-sort')") == "descending"
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press(" ", " ")
    assert tab.run("document.activeElement.parentElement.getAttribute('aria-sort')") == "ascending"
    assert column(tab, 3) == [0.25, 0.5, 1]


def shown(tab: Browser) -> list[str]:
    return tab.run(
        "Array.from(document.querySelectorAll('#board tbody tr:not([hidden]) th a[href*=entries]'), a => a.textContent)"
    )


def fill(tab: Browser, name: str, value: str) -> None:
    tab.run(
        f"(() => {{ const field = document.querySelector('[name={name}]'); field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )


def test_rows_are_filtered_by_words_tier_model_and_standing(tab: Browser, places: dict[str, str]) -> None:
    tab.open(places["board"])
    assert shown(tab) == ["Wall", "Clamp, tuned", "Steering"]
    fill(tab, "text", "institute TUNED")
    assert shown(tab) == ["Clamp, tuned"]
    assert tab.run("document.querySelector('output').textContent") == "1 of 4 entries"
    fill(tab, "text", "overshoot")
    assert shown(tab) == ["Steering"]
    fill(tab, "text", "")
    fill(tab, "tier", "2")
    assert shown(tab) == ["Wall", "Clamp, tuned"]
    tab.run("document.querySelector('[value=withdrawn]').click()")
    assert shown(tab) == ["Clamp, tuned"]
    fill(tab, "model", "organism")
    assert shown(tab) == ["Clamp, tuned"]


def test_a_thousand_entries_are_there_and_few_are_laid_out(tab: Browser, board: Leaderboard, tmp_path: Path) -> None:
    large = boards.large(board, 1000)
    page = suite_page(large.suites[0].suite)
    replace(tmp_path / "site", {page: board_page(environment(large), large.suites[0]), **static_files()})
    tab.open(f"{(tmp_path / 'site').as_uri()}/{page}")
    count = "document.querySelectorAll('#board tbody tr:not([hidden])').length"
    assert tab.run("document.querySelectorAll('#board tbody tr').length") == 1000
    assert tab.run(count) == 100
    print("milliseconds:", measured(tab))
    assert column(tab, 3) == sorted((round(place * 7919 % 1000 / 1000, 4) for place in range(1000)), reverse=True)[:100]
    fill(tab, "text", "defense 777")
    assert shown(tab) == ["Defense 777"]
    fill(tab, "text", "")
    tab.run("document.querySelector('.more').click()")
    assert tab.run(count) == 1000


def measured(tab: Browser) -> dict[str, int]:
    """Until the table can be used, and until it is sorted and drawn, by the browser's own clock."""
    ready = tab.run("performance.getEntriesByType('navigation')[0].domComplete")
    taken = tab.run(
        "(async () => { const before = performance.now(); document.querySelectorAll('#board thead button')[3].click();"
        f"await {SETTLED}; return performance.now() - before; }})()"
    )
    return {"ready": round(ready), "sorted": round(taken)}
