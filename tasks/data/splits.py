"""Splits: who may look at a row is decided by its cluster, never by its place in the file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from benchmark.contracts.example import SPLITS, Split
from benchmark.errors import UsageError
from tasks.data.rows import Row

SHARES: Mapping[Split, float] = {"fit": 0.4, "dev": 0.2, "test": 0.4}
"""What a split gets of the clusters, where neither the data nor the settings say."""


def check_shares(shares: Mapping[Split, float]) -> None:
    """Whether every split gets something, and all of them one.

    Raises:
        UsageError: they do not.
    """
    if set(shares) != set(SPLITS) or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(f"shares {dict(shares)}: give fit, dev and test a share above 0 each; they sum to 1")


def check_names(names: Mapping[Split, str]) -> None:
    """Whether every split has a name of its own in the data.

    Raises:
        UsageError: one has none, or two have one.
    """
    if set(names) != set(SPLITS) or len(set(names.values())) < len(SPLITS):
        raise UsageError(
            f"splits {dict(names)}: name fit, dev and test, each its own; or let `shares` deal them out anew"
        )


def by_hash(cluster: str, shares: Mapping[Split, float]) -> Split:
    """The split of a cluster; other clusters do not change it."""
    place = int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:8]) / 2**64
    reached = 0.0
    for split in SPLITS[:-1]:
        reached += shares[split]
        if place < reached:
            return split
    return SPLITS[-1]


def as_named(row: Row, names: Mapping[Split, str]) -> Split:
    """The split that the data itself says.

    Raises:
        UsageError: it is none of ours, and ``names`` does not say which.
    """
    theirs = row.name("split")
    ours: dict[str, Split] = {names.get(split, split): split for split in SPLITS}
    if theirs not in ours:
        remedy = "say which is which: splits: {fit: NAME, dev: NAME, test: NAME}, or deal them out by `shares`"
        raise row.error(f"the split {theirs!r} is none of {', '.join(ours)}; {remedy}")
    return ours[theirs]


def check_splits(source: str, rows: Sequence[Row], splits: Mapping[str, Split], *, shared: bool) -> None:
    """Whether no split is empty and, unless clusters may be ``shared``, none in two; ``splits`` by id of the row.

    Raises:
        UsageError: one is.
    """
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.cluster, row)
        own, theirs = splits[row.id], splits[other.id]
        if own != theirs and not shared:
            raise row.error(
                f"it is in {own} and shares the cluster {row.cluster!r} with {other.where}, in {theirs}: what is"
                " learned on one is known of the other; move one, let `shares` deal the clusters out, or write"
                " shared_clusters: true (-T data.shared_clusters=true) if what they share gives nothing away"
            )
    empty = [split for split in SPLITS if split not in splits.values()]
    if empty:
        raise UsageError(
            f"{source}: no row is in {', '.join(empty)}, of {len(rows)} rows in {len(first)} clusters; give more"
            " clusters, a column `split`, or other `shares`"
        )
