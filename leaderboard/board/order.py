"""The order of a board: ranked entries first, best first; of several runs of a defense only the lowest is ranked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from leaderboard.board.entries import Scored
from leaderboard.board.schema import Entry
from leaderboard.doubt.verdicts import Verdict
from leaderboard.scores.ranking import ranks

REPEATED = "another run of the same defense on the same model scored lower"


def ranked_entries(scored: Sequence[Scored]) -> list[Entry]:
    """All entries, best first, the ranked ones before the others, each ranked one with its rank."""
    scored = sorted(_worst_of_repeats(scored), key=lambda one: _order(one.entry))
    inside = [one for one in scored if one.entry.verdict.status == "ranked"]
    outside = [one.entry for one in scored if one.entry.verdict.status == "unranked"]
    found = ranks(
        [one.score for one in inside if one.score is not None], [one.entry.headline.n_clusters for one in inside]
    )
    return [one.entry.model_copy(update={"rank": rank}) for one, rank in zip(inside, found, strict=True)] + outside


def _order(entry: Entry) -> tuple[bool, float, str, str, str]:
    """Best first; controls that were not attacked last."""
    attacked = any(
        (cell.role, cell.goal) == ("attack", "behavior") for result in entry.per_task.values() for cell in result.cells
    )
    score = (entry.best_known or entry.headline).wrs.value
    lowest = -1.0 if score is None else score
    return (not attacked, -lowest, entry.defense.name, entry.model.id, entry.provenance.run_id)


def _worst_of_repeats(scored: Sequence[Scored]) -> list[Scored]:
    """Of several ranked runs of one defense only the lowest stays: seeds are a worst case, not a lottery."""

    def identity(one: Scored) -> tuple[str, str, str]:
        model = one.entry.model
        return (one.entry.defense.spec_sha, model.id, model.weights_sha or model.revision or "")

    kept = [one for one in scored if one.entry.verdict.status == "unranked"]
    candidates = sorted((one for one in scored if one.entry.verdict.status == "ranked"), key=identity)
    for _, group in groupby(candidates, key=identity):
        lowest, *others = sorted(group, key=lambda one: _order(one.entry), reverse=True)
        barred = Verdict(status="unranked", reasons=[REPEATED])
        kept += [lowest, *(one._replace(entry=one.entry.model_copy(update={"verdict": barred})) for one in others)]
    return kept
