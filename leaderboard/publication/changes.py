"""What a publication changes where an earlier one is.

An entry that is not handed in any more stays there. Of one that is, all files are those of now: its folder is whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from benchmark.errors import UsageError
from leaderboard.bundle.layout import ENTRY
from leaderboard.publication.publication import Content, is_published

SHA256, GIT = "sha256", "git-sha1"
"""How a file is known: by its bytes, or as git names a blob."""
SHOWN = 3


class Change(NamedTuple):
    """What becomes of a file."""

    kind: Literal["new", "changed", "deleted"]
    place: str
    size: int
    """Bytes that are written."""


def changes(wanted: Mapping[str, Content], there: Mapping[str, str]) -> list[Change]:
    """What differs, in the order of the publication, deletions last.

    Args:
        there: by place, ``SHA256:<digest>`` or ``GIT:<digest>`` of each file.
    """
    return [*_written(wanted, there), *_deleted(wanted, there)]


def refuse_foreign(target: str, there: Mapping[str, str]) -> None:
    """Refuse a place that holds anything else.

    Raises:
        UsageError: with the first of it.
    """
    foreign = sorted(name for name in there if not is_published(name))
    if foreign:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise UsageError(
            f"{target} holds {', '.join(foreign[:SHOWN])}{more}, which no publication has; give an empty place, or one "
            "that holds a publication and nothing else"
        )


def size_of(content: Content) -> int:
    """Its bytes."""
    return content.stat().st_size if isinstance(content, Path) else len(content)


def identity(content: Content, kind: str = SHA256) -> str:
    """A file as it is known: the kind, a colon, and the digest."""
    made = hashlib.sha256() if kind == SHA256 else hashlib.sha1(b"blob %d\0" % size_of(content), usedforsecurity=False)
    for part in _parts(content):
        made.update(part)
    return f"{kind}:{made.hexdigest()}"


def _written(wanted: Mapping[str, Content], there: Mapping[str, str]) -> Iterator[Change]:
    for name, content in wanted.items():
        known = there.get(name)
        if known is None:
            yield Change("new", name, size_of(content))
        elif identity(content, known.partition(":")[0]) != known:
            yield Change("changed", name, size_of(content))


def _deleted(wanted: Mapping[str, Content], there: Mapping[str, str]) -> Iterator[Change]:
    folders = tuple(name.removesuffix(ENTRY) for name in wanted if name.endswith(f"/{ENTRY}"))
    yield from (Change("deleted", name, 0) for name in sorted({*there} - {*wanted}) if name.startswith(folders))


def _parts(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while part := file.read(1 << 20):
            yield part
