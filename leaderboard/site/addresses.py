"""Where each page stands in the site; addresses last as long as what they are about."""

from __future__ import annotations

from collections import Counter

from benchmark.errors import UsageError
from benchmark.files import file_name
from leaderboard.board.schema import Entry, Leaderboard, SuiteInfo

DIGITS = 8
"""Of a suite's hash: enough to tell editions apart that call themselves the same."""


def suite_key(suite: SuiteInfo) -> str:
    """What a suite is called in addresses."""
    return file_name(suite.name, f"v{suite.version}", suite.hash[:DIGITS])


def entry_key(entry: Entry) -> str:
    """What an entry is called in addresses, within its suite."""
    return file_name(entry.defense.name, entry.provenance.run_id)


def suite_page(suite: SuiteInfo) -> str:
    return f"suites/{suite_key(suite)}.html"


def compare_page(suite: SuiteInfo) -> str:
    return f"compare/{suite_key(suite)}.html"


def entry_page(suite: SuiteInfo, entry: Entry) -> str:
    return f"entries/{suite_key(suite)}/{entry_key(entry)}.html"


def data_script(suite: SuiteInfo, entry: Entry) -> str:
    """What the comparison page loads of an entry."""
    return f"data/{suite_key(suite)}/{entry_key(entry)}.js"


def root_of(page: str) -> str:
    """The way from a page back to the site's folder."""
    return "../" * page.count("/")


def refuse_repeats(board: Leaderboard) -> None:
    """Nothing, if every suite and entry has an address of its own.

    Raises:
        UsageError: one is there twice.
    """
    suites = _twice([suite_key(one.suite) for one in board.suites])
    if suites:
        raise UsageError(f"suites that are there twice: {', '.join(suites)}; put the entries of each in one board")
    for one in board.suites:
        entries = _twice([entry_key(entry) for entry in one.entries])
        if entries:
            raise UsageError(
                f"entries of {one.suite.name} that are there twice: {', '.join(entries)}; give each run once"
            )


def _twice(keys: list[str]) -> list[str]:
    return [key for key, count in Counter(keys).items() if count > 1]
