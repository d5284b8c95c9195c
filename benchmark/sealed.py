"""What is closed while a defense learns: every way to data that is not its ``fit`` split.

It holds for the whole process and not for a thread, since a thread that a fit starts would go round it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmark.errors import UsageError

_learning: list[str] = []
"""Who learns; the innermost is last."""


@contextmanager
def sealed(who: str) -> Iterator[None]:
    """While the block runs, ``who`` sees what is handed to it and nothing else."""
    _learning.append(who)
    try:
        yield
    finally:
        _learning.pop()


def refuse_while_learning(what: str) -> None:
    """Nothing, unless a defense learns.

    Raises:
        UsageError: one does, and asked for ``what``.
    """
    if _learning:
        raise UsageError(
            f"{_learning[-1]}: a defense learns from the split fit alone; it asked for {what}. Take what is on"
            " the object that `fit` is given: examples, retain, streams, gradients, labels"
        )
