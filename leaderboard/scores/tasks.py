"""One task under one defense: its curves, and the score that the headline is made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import JsonValue

from leaderboard.rows.arrays import Array, counts, flag, text, where
from leaderboard.rows.fits import Fit
from leaderboard.rows.manifest import TaskRecord
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.curves import Curve
from leaderboard.scores.detection import Detection, detection
from leaderboard.scores.drawn import gap, share
from leaderboard.scores.half_points import Eps50, smallest_half_point
from leaderboard.scores.intervals import estimates
from leaderboard.scores.outcomes import outcomes
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.steerability import Steerability, steerabilities
from leaderboard.scores.task_draws import TaskDraws, task_draws
from leaderboard.scores.threats import Threats, with_role
from leaderboard.scores.values import Estimate, Strict
from leaderboard.scores.worst_cases import worst_cases


class Utility(Strict):
    """What the defense costs on held-out text of the task."""

    retained: float | None
    n: int
    n_clusters: int
    ce_base: float | None
    """Cross-entropy without the defense, nats per token."""
    ce_defended: float | None


class TaskScores(Strict):
    """One task under one defense."""

    site: str
    eligible: int
    suppressed: int
    clusters: int
    """Clusters of the eligible examples."""
    rs0: Estimate
    """RS(0): share of the eligible examples that the defense suppresses when nobody attacks."""
    scored_threats: list[str]
    """The threat models that the score is made of: primary and baseline ones that apply to the task and that the suite
    has an attack of."""
    score: Estimate
    """The smallest AURC of the scored threat models; value null: one of them is missing."""
    score_selective: Estimate
    """The same of the selective curves; value null: of one it is not known where the undefended model is steered."""
    aurc_primary: Estimate
    """The smallest AURC of the primary threat models, of those that are scored."""
    aurc_baseline: Estimate
    """The same of the baseline ones."""
    baseline_gap: Estimate
    """aurc_baseline less aurc_primary; value null: one of them is."""
    eps50: Eps50
    """Of the primary threat models, the smallest."""
    labels_defended: dict[str, int]
    """The task's verdicts on the eligible examples under the defense, before any attack."""
    curves: dict[str, Curve]
    """By threat model; of a diagnostic one two more, ``_within_tau`` and ``_within_study_limit``."""
    steerability: dict[str, Steerability]
    """By scored threat model: whether wrong answers are easier to reach under the defense; never ranked."""
    utility: Utility | None
    idempotence_gap: float | None
    suppressed_fit: float | None
    """Share of the `fit` examples that the defense suppresses."""
    detection: Detection | None
    """Null: the defense has no monitor, or nothing that enters the score was attacked."""
    figures: dict[str, JsonValue]
    """What the task itself says of the defense."""


def task_clusters(cells: Sequence[MeasuredCell]) -> Array:
    """Clusters of all test examples, eligible or not: the same for every defense and model."""
    return np.unique(np.concatenate([text(cell.rows, "cluster_id") for cell in cells]))


def task_scores(
    task: TaskRecord,
    threats: Threats,
    cells: Sequence[MeasuredCell],
    fit: Fit | None,
    resamples: Resamples,
    demanded: Collection[str],
) -> tuple[TaskScores, TaskDraws]:
    """The scores of a task from its cells (at least one), and what the bootstrap says about them.

    Args:
        demanded: threat models without which there is no score; whatever else was run and could enter the score does.
    """
    rows = pa.concat_tables([cell.rows for cell in cells])
    everything, worst = outcomes(rows), worst_cases(task, threats, cells)
    drawn = task_draws(task, threats, everything, worst, resamples, demanded)
    curves = {name: found.curve(resamples) for name, found in worst.items()}
    clusters = len(np.unique(everything.clusters))
    scores = TaskScores(
        site=task.site,
        eligible=len(everything.examples),
        suppressed=int(everything.suppressed.sum()),
        clusters=clusters,
        rs0=estimates(everything.suppressed[:, None], everything.clusters, resamples)[0],
        scored_threats=drawn.scored_threats,
        score=share(drawn.score, clusters),
        score_selective=share(drawn.score_selective, clusters),
        aurc_primary=share(drawn.primary, clusters),
        aurc_baseline=share(drawn.baseline, clusters),
        baseline_gap=gap(drawn.gap, clusters),
        eps50=_eps50(curves, threats),
        labels_defended=_labels(rows),
        curves=curves,
        steerability=steerabilities(cells, resamples),
        detection=detection(cells, fit, resamples),
        **_of_fit(fit),
    )
    return scores, drawn


def _eps50(curves: Mapping[str, Curve], threats: Threats) -> Eps50:
    primary = [curves[name] for name in with_role(threats, "primary") if name in curves]
    return smallest_half_point(one.raw.eps50 for one in primary)


def _of_fit(fit: Fit | None) -> dict[str, Any]:
    """What fitting the defense said of it."""
    if fit is None:
        return {"utility": None, "idempotence_gap": None, "suppressed_fit": None, "figures": {}}
    utility = Utility.model_validate(fit.utility.model_dump()) if fit.utility else None
    return {
        "utility": utility,
        "idempotence_gap": fit.idempotence_gap,
        "suppressed_fit": fit.suppressed_fit,
        "figures": fit.task_figures,
    }


def _labels(rows: pa.Table) -> dict[str, int]:
    """Each eligible example once."""
    kept = where(rows, flag(rows, "eligible"))
    _, first = np.unique(text(kept, "example_id"), return_index=True)
    return counts(text(kept, "label_defended")[first])
