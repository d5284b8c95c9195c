"""``fits/<task>__<defense>.json``: what fitting a defense chose, and what the defense costs."""

from __future__ import annotations

from pydantic import JsonValue

from leaderboard.rows.recorded import Recorded


class UtilityRecord(Recorded):
    """What a defense costs on held-out text."""

    retained: float | None
    """Null: there is nothing to retain."""
    n: int
    n_clusters: int
    ce_base: float | None = None
    ce_defended: float | None = None


class ShareRecord(Recorded):
    """A share of the eligible examples, with its cluster-robust standard error."""

    share: float
    error: float
    n: int


class Fit(Recorded):
    """One defense on one task."""

    task: str
    defense: str
    record: dict[str, JsonValue] = {}
    utility: UtilityRecord | None = None
    idempotence_gap: float | None = None
    suppressed_fit: float | None = None
    nondeterminism: float | None = None
    """Largest difference between equal forwards of the defended model; null: not measured."""
    edit_moved: float | None = None
    """Relative L2 change of the stream by the edits in the scored forward; null: there are none, or not measured."""
    monitor_false_positives: float | None = None
    """Share of the unattacked test examples that the monitor calls attacked; null: there is no monitor."""
    broken_promises: list[str] = []
    """Promises of every defense that this one does not keep, each with its evidence; none where it was not asked."""
    suppressed_share: dict[str, ShareRecord | None] = {}
    """Split (test, dev) -> share of its eligible examples that are suppressed; null: none is eligible."""
    task_figures: dict[str, JsonValue] = {}
    """What the task itself says of the defense."""
