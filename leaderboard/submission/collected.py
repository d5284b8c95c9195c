"""All entries of a folder on a board a suite, each with who handed it in and what was checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from leaderboard.board.aggregate import suite_info
from leaderboard.board.entries import Scored, score_entry
from leaderboard.board.order import ranked_entries
from leaderboard.board.paired_defenses import comparisons
from leaderboard.board.schema import BestKnown, Credit, Submission, SuiteBoard
from leaderboard.bundle.reading import Bundle, found_below, readable
from leaderboard.challenge.best_known import best_known, falls
from leaderboard.challenge.reading import CHALLENGES, Challenge
from leaderboard.doubt.verdicts import Verdict
from leaderboard.scores.resampling import RESAMPLES, Resampler
from leaderboard.verification.certificate import tier_of
from leaderboard.verification.counting import counting

MOST_COMPARED = 40
"""Entries of a suite of which every two are compared, best first: of more, the pairs would fill the file."""


class Collected(NamedTuple):
    """What lies in a folder of entries."""

    boards: list[SuiteBoard]
    """By name and version of the suite."""
    left_out: list[str]
    """Entries and challenges that cannot be read, each with why."""
    waiting: list[str]
    """Challenges that do not count before they are verified, each with how."""


def collected(root: Path, challenges: Path = CHALLENGES, *, resamples: int = RESAMPLES) -> Collected:
    """Read and score every entry below a folder, with what was found against it.

    Raises:
        UsageError: there is no such folder.
    """
    bundles, left_out, waiting, against = list[Bundle](), list[str](), list[str](), dict[Path, list[Challenge]]()
    for folder in found_below(root):
        bundle, why = readable(folder)
        if bundle is None:
            left_out.append(str(why))
        else:
            bundles.append(bundle)
            against[folder], later, refused = counting(bundle, challenges)
            left_out += refused
            waiting += later
    return Collected(boards(bundles, against, resamples=resamples), left_out, waiting)


def boards(
    bundles: Sequence[Bundle], against: Mapping[Path, Sequence[Challenge]], *, resamples: int = RESAMPLES
) -> list[SuiteBoard]:
    """A board a suite, by its name and version.

    Args:
        against: by the folder of each entry, what was found against it.
    """
    attempts = Counter(_owner(bundle) for bundle in bundles)
    by_suite: dict[tuple[str, str, str], list[Bundle]] = {}
    for bundle in bundles:
        suite = bundle.entry.suite
        by_suite.setdefault((suite.name, suite.version, suite.hash), []).append(bundle)
    return [_board(by_suite[key], attempts, against, resamples) for key in sorted(by_suite)]


def _owner(bundle: Bundle) -> tuple[str, str]:
    """Who handed it in to what: attempts at all versions of a suite count together."""
    return bundle.entry.suite.name, bundle.entry.submitter.organisation.casefold()


def _board(
    bundles: Sequence[Bundle],
    attempts: Counter[tuple[str, str]],
    against: Mapping[Path, Sequence[Challenge]],
    resamples: int,
) -> SuiteBoard:
    info = suite_info([bundle.run for bundle in bundles])
    resampler = Resampler(0, resamples)
    plain = [_scored(bundle, attempts[_owner(bundle)], info.tasks, resampler) for bundle in bundles]
    pairs = zip(plain, bundles, strict=True)
    scored = [_challenged(one, bundle, against[bundle.root], info.tasks, resampler) for one, bundle in pairs]
    ranked = ranked_entries([*scored, *_controls(bundles, info.tasks, resampler)])
    place = {entry.provenance.run_id: i for i, entry in enumerate(ranked)}
    first = sorted(scored, key=lambda one: place[one.entry.provenance.run_id])[:MOST_COMPARED]
    return SuiteBoard(suite=info, entries=ranked, comparisons=comparisons(first))


def _scored(bundle: Bundle, attempts: int, tasks: Sequence[str], resampler: Resampler) -> Scored:
    found = score_entry(bundle.run, bundle.entry.defense, tasks, resampler)
    said, form = bundle.entry, bundle.entry.submitter
    submission = Submission(
        organisation=form.organisation,
        title=form.title,
        paper=form.paper,
        code=form.code,
        licence=form.licence,
        submitted=said.submitted.isoformat(),
        attempts=attempts,
        withdrawn=said.withdrawn.why if said.withdrawn else None,
        tier=tier_of(bundle.root, said),
        place="/".join(bundle.root.resolve().parts[-3:]),
    )
    changed: dict[str, object] = {"submission": submission}
    if said.withdrawn is not None:
        changed["verdict"] = Verdict(status="unranked", reasons=[f"withdrawn: {said.withdrawn.why}"])
    return found._replace(entry=found.entry.model_copy(update=changed))


def _challenged(
    scored: Scored, bundle: Bundle, challenges: Sequence[Challenge], tasks: Sequence[str], resampler: Resampler
) -> Scored:
    """The entry with its best known score, by which it is ranked."""
    if not challenges:
        return scored
    whole = score_entry(best_known(bundle.run, challenges), bundle.entry.defense, tasks, resampler)
    found = BestKnown(
        wrs=whole.entry.headline.wrs,
        per_task={task: result.score for task, result in whole.entry.per_task.items()},
        credits=[_credit(bundle, one) for one in challenges],
    )
    return scored._replace(entry=scored.entry.model_copy(update={"best_known": found}), score=whole.score)


def _credit(bundle: Bundle, challenge: Challenge) -> Credit:
    said, found = challenge.said, falls(bundle.run, [challenge])
    return Credit(
        organisation=said.challenger.organisation,
        attack=said.attack,
        settings=said.settings,
        submitted=said.submitted.isoformat(),
        fell=sum(fall.fell for fall in found),
        gave_way=sum(fall.gave_way for fall in found),
    )


def _controls(bundles: Iterable[Bundle], tasks: Sequence[str], resampler: Resampler) -> list[Scored]:
    """The control defenses of all runs, each once."""
    found: dict[tuple[str, str | None], Scored] = {}
    for bundle in bundles:
        manifest = bundle.run.manifest
        for name, record in manifest.defenses.items():
            key = (record.spec_sha, manifest.model.weights_sha)
            if name != bundle.entry.defense and key not in found:
                found[key] = score_entry(bundle.run, name, tasks, resampler)
    return list(found.values())
