"""``fits/<task>__<defense>.json``: what fitting a defense chose, and what the defense costs."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue, model_validator

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


PairedUnit = Literal["share", "nats"]
"""Of a document's value: in [0, 1], or a loss."""


class PairedRecord(Recorded):
    """A number a document, without and with the defense; all lists are as long as there are documents."""

    name: str
    metric: str
    unit: PairedUnit
    base: list[float]
    defended: list[float]
    weights: list[float] | None = None
    """Words or bytes; null: each document counts once."""
    clusters: list[str] | None = None
    """Null: each document is a cluster of its own."""

    @model_validator(mode="after")
    def _check(self) -> PairedRecord:
        lists = [self.base, self.defended, *(given for given in (self.weights, self.clusters) if given is not None)]
        if not self.base or len({len(one) for one in lists}) > 1:
            raise ValueError(f"{self.name} has lists of {', '.join(str(len(one)) for one in lists)} documents")
        return self


class Fit(Recorded):
    """One defense on one task."""

    task: str
    defense: str
    record: dict[str, JsonValue] = {}
    utility: UtilityRecord | None = None
    idempotence_gap: float | None = None
    suppressed_fit: float | None = None
    fingerprint: dict[str, JsonValue] | None = None
    """What the fitted defense does, in a few numbers; null: the run does not say."""
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
    side_effects: list[PairedRecord] = []
    """What the task says of its retain set, example by example."""
    utility_tasks: list[PairedRecord] | None = None
    """What lm-eval says of the defended model; null: it was not asked."""
