"""What goes wrong inside a process: each is a function that is called in it before it begins."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Fault = Callable[[], None]
_WATCHED = ("open", "os.mkdir", "os.rename", "os.remove", "os.listdir", "os.scandir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def at_operation(root: Path, number: int, strike: Callable[[], None], *, writing: bool = False) -> Fault:
    """``strike`` right before the ``number``-th operation on files under ``root``, counted from 0, and every later one.

    Args:
        writing: only operations that need room on the disk are counted.
    """

    def prepare() -> None:
        seen = 0

        def watch(event: str, values: tuple[Any, ...]) -> None:
            nonlocal seen
            if event not in _WATCHED or not _is_under(root, values[0]):
                return
            if writing and not _needs_room(event, values):
                return
            seen += 1
            if seen > number:
                strike()

        sys.addaudithook(watch)

    return prepare


def count_operations(root: Path, told: Path, *, writing: bool = False) -> Fault:
    """Leave a byte in ``told`` for every operation."""

    def count() -> None:
        with told.open("ab") as file:
            file.write(b".")

    return at_operation(root, 0, count, writing=writing)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def no_room() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def file_size(limit: int, *, deadly: bool) -> Fault:
    """No file may be larger than ``limit`` bytes; ``deadly``: the system ends the process in the midst of writing."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    return prepare


def little_memory(more: int) -> Fault:
    """The process may take ``more`` bytes of address space than it has at its beginning."""

    def prepare() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, resource.RLIM_INFINITY))

    return prepare


def no_accelerator_memory(first: int, every: int) -> Fault:
    """The pass from the written layer on runs out of memory at its ``first`` call, and at ``every`` further one."""

    def prepare() -> None:
        import torch

        from benchmark.model.tail import TailPass

        plain, calls = TailPass.__call__, iter(range(sys.maxsize))

        def scarce(self: Any, delta: Any, rows: Any, *rest: Any) -> Any:
            call = next(calls) - first
            if call >= 0 and call % every == 0 and len(rows) > 1:
                raise torch.OutOfMemoryError("forced")
            return plain(self, delta, rows, *rest)

        TailPass.__call__ = scarce  # pyright: ignore[reportAttributeAccessIssue]

    return prepare


def jumping_clock(seed: int) -> Fault:
    """Every look at a clock tells another time, years before or after the last one."""

    def prepare() -> None:
        rng = random.Random(seed)

        def jump() -> float:
            return rng.uniform(0, 4e9)

        time.time = time.perf_counter = time.monotonic = jump

    return prepare


def _needs_room(event: str, values: tuple[Any, ...]) -> bool:
    return event in ("os.mkdir", "os.rename") or (event == "open" and bool((values[2] or 0) & _WRITING))


def _is_under(root: Path, path: Any) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and Path(os.fsdecode(path)).is_relative_to(root)
