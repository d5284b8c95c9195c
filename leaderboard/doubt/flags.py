"""What a flag is. Those that the rows of one cell raise are in ``cell_flags.py``, those that compare attacks in
``weaker_attacks.py``, those of a fitted defense in ``fit_flags.py``; the page is ``FLAGS.md``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from leaderboard.scores.values import Strict

Effect = Literal["ok", "lower-bound-only", "invalid"]
"""ok: known, does not touch the score; lower-bound-only: recovery may be higher than measured, so the defense may look
better than it is; invalid: the measurement contradicts itself."""

CODES: dict[str, Effect] = {
    "zero-gradient": "lower-bound-only",
    "not-converged": "lower-bound-only",
    "remeasurement-lost": "lower-bound-only",
    "failed-rows": "lower-bound-only",
    "not-monotone": "lower-bound-only",
    "unbounded-below-95": "lower-bound-only",
    "weaker-beats-stronger": "lower-bound-only",
    "gradient-mismatch": "lower-bound-only",
    "gradient-free-beats-gradient": "lower-bound-only",
    "depends-on-caller": "invalid",
    "stochastic": "lower-bound-only",
    "degenerate": "lower-bound-only",
    "random-beats-gradient": "invalid",
    "zero-budget-recovers": "invalid",
    "constraint-violated": "invalid",
    "budget-violated": "invalid",
    "edit-not-executed": "invalid",
    "wrong-target-shown": "invalid",
    "promise-broken": "invalid",
    "fresh-split-differs": "invalid",
    "suppresses-test-more": "lower-bound-only",
    "near-zero-normaliser": "ok",
    "overshoot": "ok",
    "steered-cheaply": "ok",
    "detects-benign": "ok",
    "few-clusters": "ok",
}
"""Every code, and what it does to the score."""


class Flag(Strict):
    """Something doubtful about a measurement; ``FLAGS.md`` explains each code."""

    code: str
    effect: Effect
    evidence: float | None
    """The number that raised it; null: it is not finite."""
    sentence: str
    where: str
    """Task and cell."""
    scored: bool
    """The cell enters the headline score."""


class Finding(NamedTuple):
    """A flag before it knows its place."""

    code: str
    evidence: float
    sentence: str


def located(finding: Finding, place: str, *, scored: bool) -> Flag:
    """The flag of a finding at a place."""
    return Flag(
        code=finding.code,
        effect=CODES[finding.code],
        evidence=finding.evidence if np.isfinite(finding.evidence) else None,
        sentence=finding.sentence,
        where=place,
        scored=scored,
    )
