"""Hub data sets: ``hub:OWNER/NAME@COMMIT[:CONFIG[:SPLIT]]``, or a local folder in the place of ``OWNER/NAME@COMMIT``.

Pinned, because scores do not compare once an owner uploads other rows. The files at the commit are fetched once and
read from there, so that a filled cache of the hub is enough without a connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmark.errors import UsageError
from benchmark.hub import HUB, HubSource, is_commit, parse_hub, snapshot


class Address(NamedTuple):
    """What of which hub data set; ``None``: its only config, all of its splits."""

    name: str
    """``OWNER/NAME``, or a local folder of the same layout."""
    commit: str | None
    config: str | None
    split: str | None


def parse(source: str) -> Address:
    """The parts of a source that begins with ``hub:``.

    Raises:
        UsageError: it is not pinned by a commit, or has too many parts.
    """
    head, *rest = source.removeprefix(HUB).split(":")
    name, _, commit = head.partition("@")
    if len(rest) > 2:
        raise UsageError(f"{source!r} has {len(rest) - 2} parts too many; write hub:OWNER/NAME@COMMIT:CONFIG:SPLIT")
    config, split = ([part or None for part in rest] + [None, None])[:2]
    if Path(head).is_dir():
        return Address(head, None, config, split)
    if not is_commit(commit):
        raise UsageError(
            f"{source!r} is not pinned: its owner can change it, and scores with it; write hub:{name}@COMMIT with the"
            " whole hash of a commit (40 hex digits, on the data set's page under `Files and versions`), or a local"
            " folder; in the place of a suite's own: --data, --retain-data"
        )
    parse_hub(HUB + head)
    return Address(name, commit, config, split)


def read_hub(source: str, splits: Sequence[str] = ()) -> list[Mapping[str, Any]]:
    """The records; class labels by name. Where there are several splits, a column ``split`` says whose they are.

    Args:
        splits: the splits to read, if the source names none; none: all.

    Raises:
        UsageError: the data set cannot be fetched or loaded.
    """
    address = parse(source)
    wanted = [address.split] if address.split else list(dict.fromkeys(splits))
    parts = _load(source, address, wanted)
    if address.split or len(parts) == 1:
        return next(iter(parts.values()))
    return [{**record, "split": split} for split, records in parts.items() for record in records]


def folder_of(address: Address) -> Path:
    """The local folder of a data set.

    Raises:
        UsageError: it is gated, there is none, or there is no connection and files are missing.
    """
    if address.commit is None:
        return Path(address.name)
    return snapshot(HubSource(address.name, address.commit, ""), ["*"], kind="dataset")


def _load(source: str, address: Address, splits: list[str]) -> dict[str, list[Mapping[str, Any]]]:
    folder = folder_of(address)
    import datasets
    from datasets.exceptions import DatasetsError

    # what is kept goes by names and times, which a local file may have again with other content
    with nullcontext() if address.commit else TemporaryDirectory() as kept:
        try:
            found: Any = datasets.load_dataset(str(folder), address.config, split=splits or None, cache_dir=kept)
        except (OSError, ValueError, DatasetsError) as error:
            told = " ".join(str(error).split())[:400]
            raise UsageError(f"the data set {source!r} cannot be loaded: {told}; give another source") from error
        named = dict(zip(splits, found, strict=True)) if splits else found
        return {split: _records(part) for split, part in named.items()}


def _records(part: Any) -> list[Mapping[str, Any]]:
    from datasets import ClassLabel

    named = {column: kind for column, kind in part.features.items() if isinstance(kind, ClassLabel)}
    return [
        {**record, **{column: _label(kind, record[column]) for column, kind in named.items()}}
        for record in part.to_list()
    ]


def _label(kind: Any, value: int | None) -> str | None:
    """The name of a class label; -1 is how data sets without labels say so."""
    return None if value is None or value < 0 else kind.int2str(value)
