"""When the memory is not enough for a run: one line that says so, whoever noticed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmark.errors import UsageError

_WORDS = ("can't allocate memory", "not enough memory", "cannot allocate memory")
"""What torch says on a CPU, where it has no exception of its own for it."""


@contextmanager
def enough_memory() -> Iterator[None]:
    """Running out of memory ends the run with a message.

    Raises:
        UsageError: the memory is not enough.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if not _ran_out(error):
            raise
        raise UsageError(
            "the memory is not enough for this run. Finished cells are safe; end other programs, or give a smaller "
            "--batch-size, and repeat the command to resume"
        ) from error


def _ran_out(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error).lower() for words in _WORDS)
