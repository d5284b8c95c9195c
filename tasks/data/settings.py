"""The data of a task, as settings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field

from benchmark.contracts.example import SPLITS, Split
from benchmark.errors import UsageError
from tasks.data.rows import Columns, Place, Row, make_row, place_columns
from tasks.data.sources import Records, fresh_records, read_records
from tasks.data.splits import SHARES, as_named, by_hash, check_names, check_shares, check_splits

T = TypeVar("T")
SEALED = "sealed"
"""What the data's column ``split`` calls rows that are shown to nobody and compared with ``test``."""
Wanted = str | int | float | bool


@dataclass(frozen=True)
class Data:
    """Where a task's examples come from, and who may look at which."""

    source: Annotated[str, Field(pattern=r"\S")]
    """A file (.csv, .json, .jsonl, .parquet), ``hub:OWNER/NAME@COMMIT[:CONFIG[:SPLIT]]``, or ``NAME:ITEM`` of a
    registered source."""
    columns: Mapping[str, Place] = field(default_factory=dict)
    """The task's column -> the data's, where they are named otherwise; several where they are the parts of a list."""
    filters: Mapping[str, Wanted | tuple[Wanted, ...]] = field(default_factory=dict)
    """A column of the data -> the value, or one of the values, that a row must have there."""
    splits: Mapping[Split, str] = field(default_factory=dict)
    """fit, dev, test -> what the data's column ``split``, or the hub, calls it; rows of other splits are left out."""
    shares: Mapping[Split, float] | None = None
    """What each split gets of the clusters, by their hash. Default: the data's own column ``split`` decides, and .4, .2
    and .4 where it has none."""
    shared_clusters: bool = False
    """The data's own splits may share clusters: a template, say, that tells nothing about what is asked."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many rows, the same ones in whatever order they stand."""

    def __post_init__(self) -> None:
        if self.shares is not None:
            check_shares(self.shares)
        if self.splits:
            check_names(self.splits)
        if self.shares is not None and self.splits:
            raise UsageError(f"{self.source}: `shares` and `splits` were given; leave one out")

    def read(self, columns: Columns, make: Callable[[Row], T]) -> dict[Split, list[T]]:
        """What ``make`` gives of every row, by split, in the order of the data.

        Raises:
            UsageError: the data cannot be read, or something in it is missing, twice there or in two splits; or what
                ``make`` raises, of the first such row.
        """
        made = [(row, make(row)) for row in self._rows(columns) if not self._sealed(row)]
        kept = self._sample([row for row, _ in made])
        splits: dict[str, Split] = {row.id: self._split(row) for row in kept}
        check_splits(self.source, kept, splits, shared=self.shared_clusters)
        return {split: [thing for row, thing in made if splits.get(row.id) == split] for split in SPLITS}

    def fresh(self, columns: Columns, make: Callable[[Row], T], key: str, count: int) -> list[T]:
        """What ``make`` gives of rows that are in no split: new ones that the source makes, else some of those that the
        data's column ``split`` calls ``sealed``; none: there are neither.

        Raises:
            UsageError: a row says what another one does, or is not as it must be.
        """
        records = fresh_records(self.source, key, count)
        there = list(dict.fromkeys(name for record in records for name in record))
        places = place_columns(self.source, columns, self.columns, there) if records else {}
        where, known = f"{self.source}, fresh row", self._rows(columns)
        rows = [make_row(f"{where} {n}", record, places, columns) for n, record in enumerate(records, 1)]
        _distinct([*known, *rows])
        kept = [row for row in known if self._sealed(row)]
        drawn = sorted(kept, key=lambda row: hashlib.sha256(f"{key} {row.id}".encode()).digest())[:count]
        return [make(row) for row in rows or drawn]

    def _rows(self, columns: Columns) -> list[Row]:
        records = read_records(self.source, tuple(self.splits.values()))
        there = list(dict.fromkeys(name for record in records for name in record))
        places = place_columns(self.source, columns, self.columns, there)
        wanted = self._wanted(places, there)
        rows = [
            make_row(f"{self.source}, row {number}", record, places, columns)
            for number, record in enumerate(records, 1)
            if all(str(record.get(name)) in values for name, values in wanted.items())
        ]
        if not rows:
            raise UsageError(f"{self.source}: none of {len(records)} rows is left; {_described(records, wanted)}")
        return _distinct(rows)

    def _wanted(self, places: Mapping[str, Place], there: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Column of the data -> the values of the rows that are kept."""
        missing = [name for name in self.filters if name not in there]
        if self.splits and "split" not in places:
            missing.append("split")
        if missing:
            raise UsageError(
                f"{self.source} has no column {', '.join(missing)} to choose by; it has: {', '.join(there)}"
            )
        chosen = {name: value if isinstance(value, tuple) else (value,) for name, value in self.filters.items()}
        own = {str(places["split"]): tuple(self.splits.values())} if self.splits else {}
        return {name: tuple(map(str, values)) for name, values in {**chosen, **own}.items()}

    def _sample(self, rows: list[Row]) -> list[Row]:
        if self.limit is None:
            return rows
        return sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())[: self.limit]

    def _sealed(self, row: Row) -> bool:
        """It is in no split: kept for ``fresh``."""
        named = self.shares is None and SEALED not in self.splits.values() and "split" in row.values
        return named and row.name("split") == SEALED

    def _split(self, row: Row) -> Split:
        if self.shares is None and "split" in row.values:
            return as_named(row, self.splits)
        return by_hash(row.cluster, self.shares or SHARES)


def _distinct(rows: list[Row]) -> list[Row]:
    """The rows.

    Raises:
        UsageError: an id is there twice, or two clusters say the same.
    """
    ids: dict[str, Row] = {}
    contents: dict[str, Row] = {}
    for row in rows:
        twin, same = ids.setdefault(row.id, row), contents.setdefault(row.content, row)
        if twin is not row and twin.content != row.content:
            raise row.error(f"the id {row.id!r} is also that of {twin.where}; ids are unique")
        if same is not row and (twin is not row or same.cluster != row.cluster):
            raise row.error(
                f"it says the same as {same.where}; leave one out, or give both one `cluster` and ids of their own"
            )
    return rows


def _described(records: Records, wanted: Mapping[str, tuple[str, ...]]) -> str:
    """What was asked for, and what there is."""
    found: dict[str, list[Any]] = {name: sorted({str(record.get(name)) for record in records}) for name in wanted}
    return "; ".join(
        f"{name} was to be {' or '.join(wanted[name])}, and is {', '.join(found[name][:10])}" for name in wanted
    )
