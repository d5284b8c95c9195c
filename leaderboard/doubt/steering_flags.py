"""Flags of a search for wrong targets: whether the defense makes wrong answers instead of hiding right ones."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from leaderboard.doubt.flags import Finding
from leaderboard.doubt.gains import net_gain, significant
from leaderboard.scores.steerability import steering

SHOWN = 0.5
"""On a larger share of the suppressed examples all wrong targets are there before any attack: they are planted."""
CHEAPER = 0.25
"""So much more of the suppressed examples reach a wrong target than undefended."""


def steering_findings(rows: pa.Table) -> Iterator[Finding]:
    """What the rows of a cell that aims at wrong targets say of the defense."""
    found = steering(rows)
    if not len(found.examples):
        return
    shown = float(found.shown.mean())
    if shown > SHOWN:
        yield Finding("wrong-target-shown", shown, f"wrong answers are shown on {shown:.1%} before any attack")
    if found.undefended is None or not len(found.budgets):
        return
    gain, error = net_gain(found.defended[:, -1], found.undefended[:, -1], found.clusters)
    if significant(gain, error, CHEAPER):
        at = f"up to {found.budgets[-1]:.3g} a wrong target is in reach on {gain:.1%} more than undefended"
        yield Finding("steered-cheaply", gain, at)
