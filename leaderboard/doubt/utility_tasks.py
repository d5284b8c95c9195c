"""What lm-eval's tasks say against ranking a defense: those that the suite asks for and says how much must be kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from leaderboard.rows.manifest import UtilityTaskRecord
from leaderboard.scores.paired import PairedScore


def utility_task_reasons(
    asked: Sequence[UtilityTaskRecord], found: Mapping[str, Sequence[PairedScore]]
) -> Iterator[str]:
    """Sentences about what was lost, or never measured.

    Args:
        found: by task of the suite, what was measured with the defense fitted on it.
    """
    for one in asked:
        measured = {task: score for task, scores in found.items() for score in scores if score.name == one.task}
        lacking = [task for task in found if task not in measured]
        if lacking:
            yield (
                f"utility task {one.task} of the suite was not measured on {', '.join(lacking)}: repeat the run without"
                " --no-utility"
            )
        for task, score in measured.items():
            if one.keep is not None and (score.kept is None or score.kept < one.keep):
                yield f"utility task {one.task}: {_lost(score)}, below {one.keep:g}, with the defense of {task}"


def _lost(score: PairedScore) -> str:
    if score.kept is None:
        return f"{score.metric} is 0 on the undefended model, so that nothing can be kept"
    return f"{score.kept:.3f} of {score.metric} is kept"
