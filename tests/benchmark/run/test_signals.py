"""A signal that asks to end is met like Ctrl-C, in the main thread; nobody else's handler is touched."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark import evaluate
from benchmark.run.listener import Silent
from benchmark.run.signals import Stopped, courteous
from tests.toy_run import DEFENSE, FEW

ENDING = [signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def unheard() -> Iterator[None]:
    """Nobody listens to them, and none is ignored, also where the tests were begun with ``nohup``."""
    old = [signal.signal(number, signal.SIG_DFL) for number in ENDING]
    yield
    for number, before in zip(ENDING, old, strict=True):
        signal.signal(number, before)


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_raises_and_a_second_one_would_end_at_once(number: signal.Signals) -> None:
    with pytest.raises(Stopped, match=number.name) as told, courteous():
        try:
            os.kill(os.getpid(), number)
        finally:
            assert {signal.getsignal(n) for n in ENDING} == {signal.SIG_DFL}
    assert told.value.exit_code == 128 + number
    assert signal.getsignal(number) == signal.SIG_DFL


def test_handlers_of_others_and_ignored_signals_are_left_alone() -> None:
    heard: list[int] = []
    others = (lambda number, _: heard.append(number)), signal.SIG_IGN
    old = [signal.signal(number, other) for number, other in zip(ENDING, others, strict=True)]
    try:
        with courteous():
            for number in ENDING:
                os.kill(os.getpid(), number)
        assert heard == [signal.SIGTERM] and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, before in zip(ENDING, old, strict=True):
            signal.signal(number, before)


class Ends(Silent):
    """Sends the process a signal after a cell."""

    def finished(self, *_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_asked_to_end_says_so_and_is_resumed(suite: str, tmp_path: Path) -> None:
    asking: Silent = Ends()
    with pytest.raises(Stopped):
        evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", listener=asking, **FEW)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert len(list((tmp_path / "run" / "cells").iterdir())) == 1
    assert evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", **FEW).status == "complete"
    events = list(map(json.loads, (tmp_path / "run" / "events.jsonl").read_text().splitlines()))
    assert [event["last"] for event in events if event["event"] == "resumed"] == ["interrupted"]
    assert {event["event"] for event in events} == {"resumed", "fitting", "attacking"}


def test_a_run_in_another_thread_works(suite: str, tmp_path: Path) -> None:
    found: list[str] = []

    def work() -> None:
        found.append(evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", **FEW).status)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["complete"]
