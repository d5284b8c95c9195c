"""What a pair measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmark.published.switches import MEANING, Switch


@dataclass(frozen=True)
class Reading:
    """One quantity, measured strictly and with one switch on."""

    switch: Switch
    quantity: str
    unit: str
    strict: float | None
    paper: float | None
    n: int
    """Rows, or examples, that both are means of."""
    setting: str
    """Task, search and budget."""

    @classmethod
    def of(
        cls, switch: Switch, quantity: str, unit: str, sides: Sequence[float | None], n: int, setting: str
    ) -> Reading:
        """The same with both values together, the strict one first."""
        strict, paper = sides
        return cls(switch, quantity, unit, strict, paper, n, setting)

    @property
    def difference(self) -> float | None:
        """``paper`` less ``strict``; None where one of them does not exist."""
        return None if self.strict is None or self.paper is None else self.paper - self.strict

    def describe(self) -> dict[str, Any]:
        """As JSON values, for audit.json."""
        return {**asdict(self), "switch": str(self.switch), "difference": self.difference}


@dataclass(frozen=True)
class NotShown:
    """A pair that this suite cannot show."""

    switch: Switch
    why: str

    def describe(self) -> dict[str, Any]:
        """As JSON values, for audit.json."""
        return {"switch": str(self.switch), "why": self.why}


def describe_switch(switch: Switch) -> dict[str, Any]:
    """What a switch stands for, as JSON values."""
    return {"switch": str(switch), **MEANING[switch]._asdict()}


def mean(values: Sequence[Any]) -> float | None:
    """Mean of numbers or truth values; None of nothing."""
    return sum(float(v) for v in values) / len(values) if values else None


def means(sides: Iterable[Sequence[Any]]) -> list[float | None]:
    """The mean of each side."""
    return [mean(values) for values in sides]
