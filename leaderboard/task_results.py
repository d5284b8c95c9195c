"""One task under one defense: its cells, its curves, its flags and the score that the headline is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from leaderboard.cell_statistics import NOTHING, cell_flag, cell_statistics, detected_share, is_scored
from leaderboard.comparisons import comparison_findings
from leaderboard.curves import areas, clean_suppression, covers, curve
from leaderboard.families import SCORED_FAMILIES, SUFFIX_FAMILIES, THREAT_MODEL, applies, ceiling, limit, ranked_budgets
from leaderboard.fit_flags import fit_findings
from leaderboard.flags import cell_findings, few_clusters, located, zero_budget
from leaderboard.intervals import estimates, percentile, percentile_difference
from leaderboard.outcomes import Outcomes, outcomes
from leaderboard.resampling import Resamples
from leaderboard.rows import Array, counts, flag, monitored, real, skipped, text, up_to, where
from leaderboard.runs import Fit, MeasuredCell, TaskRecord
from leaderboard.schema import Curve, Detection, TaskResult, Utility
from leaderboard.values import Estimate, Family, Flag


class FamilyOutcomes(NamedTuple):
    """The worst case of a family on its ranked budgets."""

    worst: Outcomes
    budgets: Array
    tau: float | None


class ResampledTask(NamedTuple):
    """A task's statistics in each bootstrap resample, (resamples,) each; null: not measured."""

    rs0: Array | None
    areas: dict[Family, Array]
    """Selective."""
    suffix: Array | None
    score: Array | None
    score_raw: Array | None

    @property
    def suffix_gap(self) -> Array | None:
        """Of the suffixes' area over the one of ``before_edit``."""
        before = self.areas.get("before_edit")
        return None if self.suffix is None or before is None else self.suffix - before


def task_clusters(cells: Sequence[MeasuredCell]) -> Array:
    """Clusters of all test examples, eligible or not: the same for every defense and model."""
    return np.unique(np.concatenate([text(cell.rows, "cluster_id") for cell in cells]))


def task_result(
    record: TaskRecord,
    cells: Sequence[MeasuredCell],
    fit: Fit | None,
    resamples: Resamples,
    demanded: Sequence[Family] = SCORED_FAMILIES[:2],
) -> tuple[TaskResult, ResampledTask]:
    """The result of a task from its cells (at least one), and what the bootstrap says about it.

    Args:
        demanded: families without which there is no score; whatever else was run and could enter the score does.
    """
    cells = [MeasuredCell(cell.plan, up_to(cell.rows, ceiling(record, cell.plan.threat_model))) for cell in cells]
    rows = pa.concat_tables([cell.rows for cell in cells])
    everything = outcomes(rows)
    families = _families(record, cells)
    scored: tuple[Family, ...] = tuple(
        family
        for family in SCORED_FAMILIES
        if family in demanded or (family in families and applies(record, THREAT_MODEL[family]))
    )
    suffixes: tuple[Family, ...] = tuple(family for family in scored if family in SUFFIX_FAMILIES)
    flags = _flags(cells, everything, fit)
    curves: dict[Family, Curve] = {name: _curve(name, family, resamples) for name, family in families.items()}
    resampled = _resampled(everything, families, scored, suffixes, resamples)
    clusters = len(np.unique(everything.clusters))
    result = TaskResult(
        site=record.site,
        eligible=len(everything.examples),
        suppressed=int(everything.suppressed.sum()),
        clusters=clusters,
        rs0=clean_suppression(everything, resamples),
        scored_families=list(scored),
        score=_smallest(curves, scored, resampled.score, clusters),
        score_raw=_smallest(curves, scored, resampled.score_raw, clusters, selective=False),
        aurc_suffix=_smallest(curves, suffixes, resampled.suffix, clusters),
        suffix_gap=_gap(curves, suffixes, resampled, clusters),
        labels_defended=_labels(rows),
        cells=[cell_statistics(cell, resamples, flags.get(cell.plan.key, ())) for cell in cells],
        curves=curves,
        utility=Utility.model_validate(fit.utility.model_dump()) if fit and fit.utility else None,
        idempotence_gap=fit.idempotence_gap if fit else None,
        suppressed_fit=fit.suppressed_fit if fit else None,
        detection=_detection(cells, fit, resamples),
        figures=fit.task_figures if fit else {},
        flags=[flag for found in flags.values() for flag in found],
    )
    return result, resampled


def _families(record: TaskRecord, cells: Sequence[MeasuredCell]) -> dict[Family, FamilyOutcomes]:
    """The families whose ranked budgets were all run."""
    found: dict[Family, FamilyOutcomes] = {}
    for name, threat_model in THREAT_MODEL.items():
        rows = [
            cell.rows
            for cell in cells
            if cell.plan.threat_model == threat_model and cell.plan.attacks and not skipped(cell.rows)
        ]
        tau = limit(record, name)
        if not rows or (name == "after_edit_within_tau" and tau is None):
            continue
        family = FamilyOutcomes(outcomes(pa.concat_tables(rows), within=tau), ranked_budgets(record, name), tau)
        if len(family.worst.examples) and covers(family.worst, family.budgets):
            found[name] = family
    return found


def _curve(name: Family, family: FamilyOutcomes, resamples: Resamples) -> Curve:
    return curve(family.worst, family.budgets, resamples, [THREAT_MODEL[name]], family.tau)


def _resampled(
    everything: Outcomes,
    families: Mapping[Family, FamilyOutcomes],
    scored: Sequence[Family],
    suffixes: Sequence[Family],
    resamples: Resamples,
) -> ResampledTask:
    if not len(everything.examples):
        return ResampledTask(None, {}, None, None, None)
    rs0 = resamples.means(everything.suppressed[:, None], everything.clusters)[:, 0]
    strict: dict[Family, Array] = {name: _areas(family, resamples, selective=True) for name, family in families.items()}
    raw: dict[Family, Array] = {name: _areas(family, resamples, selective=False) for name, family in families.items()}
    return ResampledTask(rs0, strict, _smaller(strict, suffixes), _smaller(strict, scored), _smaller(raw, scored))


def _areas(family: FamilyOutcomes, resamples: Resamples, *, selective: bool) -> Array:
    own = areas(family.worst, family.budgets, selective=selective)
    return resamples.means(own[:, None], family.worst.clusters)[:, 0]


def _smaller(drawn: Mapping[Family, Array], names: Sequence[Family]) -> Array | None:
    """The smallest area of each resample; null where there is no such family, or one of them is missing."""
    if not names or not all(name in drawn for name in names):
        return None
    return np.minimum.reduce([drawn[name] for name in names])


def _smallest(
    curves: Mapping[Family, Curve],
    names: Sequence[Family],
    drawn: Array | None,
    clusters: int,
    *,
    selective: bool = True,
) -> Estimate:
    """The smallest area of the named families with its interval from the resamples ``drawn``."""
    if drawn is None:
        return NOTHING
    series = [curves[name].selective if selective else curves[name].raw for name in names]
    value = min(one.aurc.value or 0.0 for one in series)
    return Estimate(value=value, interval=percentile(drawn, value, clusters))


def _gap(
    curves: Mapping[Family, Curve], suffixes: Sequence[Family], resampled: ResampledTask, clusters: int
) -> Estimate:
    """AURC of the suffixes less AURC before_edit; both from the same resamples, so the interval is a paired one."""
    draws = resampled.suffix_gap
    if draws is None:
        return NOTHING
    area = {name: one.selective.aurc.value or 0.0 for name, one in curves.items()}
    value = min(area[name] for name in suffixes) - area["before_edit"]
    return Estimate(value=value, interval=percentile_difference(draws, value, clusters))


def _labels(rows: pa.Table) -> dict[str, int]:
    """Each eligible example once."""
    kept = where(rows, flag(rows, "eligible"))
    _, first = np.unique(text(kept, "example_id"), return_index=True)
    return counts(text(kept, "label_defended")[first])


def _detection(cells: Sequence[MeasuredCell], fit: Fit | None, resamples: Resamples) -> Detection | None:
    rows = [cell.rows for cell in cells if is_scored(cell.plan) and monitored(cell.rows)]
    if not rows:
        return None
    worst = outcomes(pa.concat_tables(rows))
    unseen = np.logical_or.reduce(worst.undetected[worst.suppressed], axis=1, keepdims=True)
    return Detection(
        false_positives=fit.monitor_false_positives if fit else None,
        recovered=int(worst.recovered.any(axis=1).sum()),
        detected_share=detected_share(worst, slice(None), resamples),
        undetected_share=estimates(unseen, worst.clusters[worst.suppressed], resamples)[0],
    )


def _flags(cells: Sequence[MeasuredCell], everything: Outcomes, fit: Fit | None) -> dict[str, list[Flag]]:
    """Flags by cell key; those of the task as a whole under the empty key."""
    flags: dict[str, list[Flag]] = {}
    task = cells[0].plan.task
    for plan, finding in comparison_findings(cells):
        flags.setdefault(plan.key, []).append(cell_flag(plan, finding))
    for cell in cells:
        found = list(zero_budget(cell.rows)) if _is_zero(cell) else []
        if cell.plan.attacks:
            found += cell_findings(cell.rows, cell.plan.threat_model, cell.plan.constraint)
        flags.setdefault(cell.plan.key, []).extend(cell_flag(cell.plan, finding) for finding in found)
    whole = [*few_clusters(everything), *(fit_findings(fit) if fit else ())]
    flags[""] = [located(finding, task, scored=True) for finding in whole]
    return flags


def _is_zero(cell: MeasuredCell) -> bool:
    budgets = real(cell.rows, "budget_eps")
    return len(budgets) > 0 and not budgets.any()
