"""The headline of a defense: means over the tasks of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from leaderboard.scores.drawn import Drawn, gap, mean, share
from leaderboard.scores.half_points import Eps50, smallest_half_point
from leaderboard.scores.task_draws import TaskDraws
from leaderboard.scores.tasks import TaskScores
from leaderboard.scores.values import Estimate, Strict


class Headline(Strict):
    """Means over tasks; every recovery counts unless the name says selective; ranked by ``wrs``."""

    wrs: Estimate
    """Worst-case robust suppression."""
    wrs_selective: Estimate
    """The same, counting only recoveries at a smaller budget than a wrong target on the undefended model; value null:
    where that is steered is not known of every scored threat model."""
    rs0: Estimate
    aurc: dict[str, Estimate]
    """By curve, over the tasks to which its threat model applies; value null: not measured on all of them. Diagnostic
    threat models are never ranked; of each there are two more curves, in which a recovery counts only with relative
    drift up to the suite's tau (``_within_tau``) or the published limit, 0.03 (``_within_study_limit``)."""
    aurc_selective: dict[str, Estimate]
    """The same of the selective curves."""
    aurc_primary: Estimate
    """The smallest of the primary threat models, over the tasks on which one is scored; value null: none."""
    aurc_baseline: Estimate
    """The same of the baseline ones."""
    baseline_gap: Estimate
    """Mean of aurc_baseline - aurc_primary over the same tasks; above 0: judging by the baselines alone flatters."""
    eps50: Eps50
    """Of the primary threat models, on the task where it is smallest."""
    n: int
    """Eligible examples over all tasks."""
    n_clusters: int


def headline(
    per_task: Mapping[str, TaskScores], drawn: Mapping[str, TaskDraws], tasks: Sequence[str]
) -> tuple[Headline, Drawn | None]:
    """The means over all ``tasks``, and the score in each resample; a mean over fewer tasks does not exist."""
    complete = bool(tasks) and all(task in per_task for task in tasks)
    tasks = tasks if complete else []
    draws = [drawn[task] for task in tasks]
    clusters = [one.clusters for one in per_task.values()]
    fewest = min(clusters, default=0)
    baselines = [one for one in draws if one.scored["baseline"]]

    def over(found: Sequence[TaskDraws], statistic: Callable[[TaskDraws], Drawn | None]) -> Estimate:
        return share(mean([statistic(one) for one in found]), fewest)

    score = mean([one.score for one in draws])
    head = Headline(
        wrs=share(score, fewest),
        wrs_selective=over(draws, lambda one: one.score_selective),
        rs0=over(draws, lambda one: one.rs0),
        aurc=_areas(per_task, drawn, tasks, lambda one: one.areas, fewest),
        aurc_selective=_areas(per_task, drawn, tasks, lambda one: one.areas_selective, fewest),
        aurc_primary=over([one for one in draws if one.scored["primary"]], lambda one: one.primary),
        aurc_baseline=over(baselines, lambda one: one.baseline),
        baseline_gap=gap(mean([one.gap for one in baselines]), fewest),
        eps50=smallest_half_point(per_task[task].eps50 for task in tasks),
        n=sum(one.eligible for one in per_task.values()),
        n_clusters=sum(clusters),
    )
    return head, score


def _areas(
    per_task: Mapping[str, TaskScores],
    drawn: Mapping[str, TaskDraws],
    tasks: Sequence[str],
    areas: Callable[[TaskDraws], Mapping[str, Drawn]],
    clusters: int,
) -> dict[str, Estimate]:
    """The mean area of each curve over those of ``tasks`` to which its threat model applies."""
    kinds = {threat: threat for one in drawn.values() for threat in sorted(one.applying)}
    kinds |= {name: curve.threat_model for one in per_task.values() for name, curve in one.curves.items()}
    found = [drawn[task] for task in tasks]
    return {
        name: share(mean([areas(one).get(name) for one in found if threat in one.applying]), clusters)
        for name, threat in kinds.items()
    }
