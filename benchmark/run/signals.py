"""A request to end, from a terminal that closes or from a system that shuts down, is met like Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGTERM", "SIGHUP")
"""Signals that end a process without a word unless it listens; not every system has both."""


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end; everything finished so far is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that a signal ended."""
        return 128 + self.number


@contextmanager
def courteous(names: tuple[str, ...] = NAMES) -> Iterator[None]:
    """While it lasts, the first such signal raises ``Stopped``, and a second one of any kind ends the process at once.

    Signals that somebody listens to already, or that are ignored (``nohup``), are left alone; so are all of them
    outside of the main thread, where nobody may listen to them.
    """
    wanted = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        wanted = []
    taken = {n: signal.getsignal(n) for n in wanted}
    taken = {n: old for n, old in taken.items() if old in (signal.SIG_DFL, signal.default_int_handler)}

    def stop(number: int, frame: FrameType | None) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, old in taken.items():
            signal.signal(number, old)
