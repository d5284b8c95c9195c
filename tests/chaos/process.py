"""``bench`` in processes that are forked from one that has everything imported, so that hundreds of runs are quick."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

PATIENCE = 180.0
"""Seconds after which a process counts as hung."""


@dataclass
class Ended:
    """How a process ended."""

    code: int
    """Its exit code; -n: signal n ended it."""
    out: str = field(repr=False)
    err: str

    @property
    def lines(self) -> list[str]:
        """What it said on standard error."""
        return [line for line in self.err.splitlines() if line.strip()]

    @property
    def clear(self) -> bool:
        """It refused with one line that says what to do."""
        return self.code == 2 and len(self.lines) == 1 and self.lines[0].startswith("error: ")


class Process:
    """One ``bench ARGUMENTS``, with something prepared in it before it begins."""

    def __init__(self, arguments: Sequence[str], prepare: Callable[[], None] | None = None) -> None:
        self._reading, writing = zip(*(_pipe() for _ in range(2)), strict=True)
        self.pid = os.fork()
        if not self.pid:
            _be_bench(arguments, writing, prepare)
        for end in writing:
            os.close(end)

    def kill_after(self, seconds: float, number: int = signal.SIGKILL) -> None:
        """Send a signal then, if it has not ended by itself."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._has_ended():
            time.sleep(0.002)
        if not self._has_ended():
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        """How it ends."""
        deadline = time.monotonic() + PATIENCE
        while not self._has_ended():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"process {self.pid} hangs")
            time.sleep(0.005)
        _, status = os.waitpid(self.pid, 0)
        out, err = (_read(end) for end in self._reading)
        return Ended(os.waitstatus_to_exitcode(status), out, err)

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)  # nobody reads before the end
    return reading, writing


def _read(end: int) -> str:
    with os.fdopen(end, "rb") as file:
        return file.read().decode()


def _be_bench(arguments: Sequence[str], ends: Sequence[int], prepare: Callable[[], None] | None) -> None:
    """Never returns."""
    code = 1
    try:
        for number, end in enumerate(ends, start=1):
            os.dup2(end, number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["bench", *arguments]
        if prepare:
            prepare()
        from benchmark.cli import main
        from benchmark.run import commands

        commands.PROBE = 0.0  # faults are for the run itself, and hundreds of runs have no seconds to estimate theirs
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
