"""What a check says: what was looked at, whether it holds, and the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from leaderboard.scores.values import Strict

SHOWN = 12
"""Faults of a check that are told; the number of all of them is."""

Stage = Literal["recomputed", "replayed", "re-run"]
STAGES: tuple[Stage, ...] = ("recomputed", "replayed", "re-run")
"""Each supposes those before it."""


class Check(Strict):
    """One thing that was looked at."""

    stage: Stage
    what: str
    """Of what has to hold, a sentence."""
    ok: bool
    evidence: list[str]
    """What was found; of many faults the first ones."""


class Made:
    """The checks that were made so far."""

    def __init__(self, hear: Callable[[Check], None]) -> None:
        self.checks: list[Check] = []
        self._hear = hear

    def keep(self, found: Iterable[Check]) -> bool:
        """Hear every check as it is made; whether all of these hold."""
        before = len(self.checks)
        for one in found:
            self.checks.append(one)
            self._hear(one)
        return all(one.ok for one in self.checks[before:])


def check(stage: Stage, what: str, faults: Iterable[str], *, looked_at: str = "") -> Check:
    """A check that holds where there are no faults.

    Args:
        looked_at: what was counted, told where there are none.
    """
    found = list(faults)
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    told = [*found[:SHOWN], *more] or ([looked_at] if looked_at else [])
    return Check(stage=stage, what=what, ok=not found, evidence=told)
