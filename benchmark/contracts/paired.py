"""What was measured of the same documents with and without a defense: numbers only, no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from benchmark.names import public_id

Unit = Literal["share", "nats"]
"""Of a document's value. share: in [0, 1], its mean is read; nats: a loss, read per unit of weight (a word, a byte)."""


class Paired(NamedTuple):
    """One measure of some documents, each with its value on the undefended and on the defended model."""

    name: str
    """What the documents are."""
    metric: str
    unit: Unit
    base: Sequence[float]
    """(documents,)."""
    defended: Sequence[float]
    """(documents,)."""
    weights: Sequence[float] | None = None
    """(documents,): how many words or bytes a document has; None: each counts once."""
    clusters: Sequence[str] | None = None
    """(documents,): what is no independent draw has one name; None: each is a cluster of its own."""

    @property
    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "metric": self.metric,
            "unit": self.unit,
            "base": list(self.base),
            "defended": list(self.defended),
            "weights": None if self.weights is None else list(self.weights),
            "clusters": None if self.clusters is None else [public_id(name) for name in self.clusters],
        }
