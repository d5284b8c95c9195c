"""What a check says: what was looked at, whether it holds, and the evidence."""

from __future__ import annotations

from collections.abc import Iterable
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


def check(stage: Stage, what: str, faults: Iterable[str], *, looked_at: str = "") -> Check:
    """A check that holds where there are no faults.

    Args:
        looked_at: what was counted, told where there are none.
    """
    found = list(faults)
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    told = [*found[:SHOWN], *more] or ([looked_at] if looked_at else [])
    return Check(stage=stage, what=what, ok=not found, evidence=told)
