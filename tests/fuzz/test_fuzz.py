"""Some hundred inputs of every kind keep the promises; and the campaign notices a reader that breaks one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from benchmark.errors import UsageError
from tests.fuzz import campaign
from tests.fuzz.campaign import Kind, Tally, ensure, kept, same


def test_a_short_campaign_breaks_nothing(tmp_path: Path) -> None:
    tallies = dict(campaign.campaign(600, 1, tmp_path))
    assert not [failure for tally in tallies.values() for failure in tally.failures]
    assert all(tally.accepted + tally.refused for tally in tallies.values())
    both = ("YAML", "JSON", "-D", "spec", "suite", "request")
    assert all(tallies[name].accepted and tallies[name].refused for name in both), "one alone would show nothing"


def raises(made: Any, folder: Path) -> None:
    raise KeyError(made)


def changes(made: Any, folder: Path) -> None:
    ensure(kept(float(made), made), made)


def sleeps(made: Any, folder: Path) -> None:
    while True:
        try:
            time.process_time()
        except Exception:
            continue


def quotes_nothing(made: Any, folder: Path) -> None:
    ensure(same(yaml.safe_load(f"a: {made}"), {"a": made}), made)


@pytest.mark.parametrize(
    ("ask", "made", "what"),
    [
        (raises, st.integers(), "KeyError"),
        (changes, st.booleans(), "Broken"),
        (sleeps, st.just(1), "TooSlow"),
        (quotes_nothing, st.sampled_from(["yes", "a"]), "Broken"),
    ],
)
def test_a_reader_that_breaks_a_promise_is_noticed(
    ask: Callable[[Any, Path], None], made: Any, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "ALLOWED", 0.2)
    tally = Tally()
    campaign._batch(Kind(made, ask, 1.0), tmp_path, tally, 20, 0)
    assert len(tally.failures) == 1 and what in tally.failures[0]


def test_a_refusal_is_an_answer(tmp_path: Path) -> None:
    def refuses(made: Any, folder: Path) -> None:
        raise UsageError("no")

    tally = Tally()
    campaign._batch(Kind(st.integers(), refuses, 1.0), tmp_path, tally, 20, 0)
    assert not tally.failures and tally.refused == 20 and tally.accepted == 0


@pytest.mark.parametrize(
    ("found", "given", "is_kept"),
    [
        (1.0, 1, True),
        (1, 1.0, False),
        (1.0, True, False),
        (1, True, False),
        ("1", 1, False),
        ((1, 2), [1, 2], True),
        ([1], [1, 2], False),
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"b": 2}, {"a": 1}, False),
    ],
)
def test_what_is_kept(found: Any, given: Any, is_kept: bool) -> None:
    assert kept(found, given) is is_kept
