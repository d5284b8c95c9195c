"""The defenses of a run that were evaluated with several SAEs of a site, each over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leaderboard.board.entries import Scored
from leaderboard.rows.run import Run
from leaderboard.scores.stability import (
    Stability,
    TaskStability,
    drawn_spread,
    retained_spread,
    sae_pair,
)


def stabilities(run: Run, scored: Sequence[Scored]) -> list[Stability]:
    """One for each attacked defense with more than one edition, in the order of the run.

    Args:
        scored: the defenses of the run.
    """
    attacked = {cell.defense for cell in run.planned if cell.attacks}
    families: dict[str, dict[str, Scored]] = {}
    for one in scored:
        name = one.entry.defense.name
        if name in attacked:
            families.setdefault(run.manifest.defenses[name].family or name, {})[name] = one
    return [_family(run, family, editions) for family, editions in families.items() if len(editions) > 1]


def _family(run: Run, family: str, editions: Mapping[str, Scored]) -> Stability:
    tasks = {task: [n for n, one in editions.items() if task in one.drawn] for task in run.manifest.tasks}
    fewest = min((result.clusters for one in editions.values() for result in one.entry.per_task.values()), default=0)
    return Stability(
        defense=family,
        run_id=run.manifest.run_id,
        saes={name: run.manifest.defenses[name].saes for name in editions},
        wrs=drawn_spread({name: one.score for name, one in editions.items()}, fewest),
        per_task={
            task: _task(run, family, task, {name: editions[name] for name in names})
            for task, names in tasks.items()
            if len(names) > 1
        },
    )


def _task(run: Run, family: str, task: str, editions: Mapping[str, Scored]) -> TaskStability:
    results = {name: one.entry.per_task[task] for name, one in editions.items()}
    fewest = min(result.clusters for result in results.values())
    return TaskStability(
        score=drawn_spread({name: one.drawn[task].score for name, one in editions.items()}, fewest),
        rs0=drawn_spread({name: one.drawn[task].rs0 for name, one in editions.items()}, fewest),
        retained=retained_spread({name: result.utility for name, result in results.items()}),
        pairs=[sae_pair(one) for one in run.stability if (one.task, one.defense) == (task, family)],
    )
