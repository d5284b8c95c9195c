"""Verify a challenge, which moves somebody else's entry: it counts when what it brought back was replayed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmark.errors import UsageError
from leaderboard.bundle import reading
from leaderboard.bundle.entry import identity
from leaderboard.bundle.layout import CODE, PERTURBATIONS
from leaderboard.bundle.leaks import leaks
from leaderboard.bundle.reading import Bundle
from leaderboard.challenge.reading import (
    Challenge,
    ChallengeFile,
    attack_of,
    entry_of,
    faults,
    form_faults,
    needs_code,
    read_said,
)
from leaderboard.challenge.running import asked
from leaderboard.rows.run import read_run
from leaderboard.verification import apart
from leaderboard.verification.again import Found
from leaderboard.verification.certificate import Certificate, tier
from leaderboard.verification.checks import Check, Made, check
from leaderboard.verification.how import How
from leaderboard.verification.live import Asked
from leaderboard.verification.recomputed import Subject, subject
from leaderboard.verification.replayed import refitted, replayed, store_faults


def verify_challenge(root: Path, how: How, hear: Callable[[Check], None]) -> Certificate:
    """Check a challenge against its entry.

    Raises:
        UsageError: its entry is not there, or what is asked cannot be done with it.
    """
    if how.share is not None:
        raise UsageError("--rerun is for entries: give --replay, which measures what a challenge brought back")
    said, bundle, made = read_said(root), reading.read_bundle(entry_of(root)), Made(hear)
    if not made.keep(_as_handed_in(root, said, bundle)):
        return _certificate(said, bundle, "", made.checks, None)
    one = subject(root, read_run(root), said.defense)
    run_id, found = one.run.manifest.run_id, None
    sound = made.keep(_beside(Challenge(root, said, one.run), bundle))
    if how.replay and sound:
        _refuse(root, said, bundle, how)
    if how.replay and sound and made.keep(_stored(one)):
        with tempfile.TemporaryDirectory() as folder:
            found = apart.ask(_asked(one, said, bundle, how), Path(folder))
            made.keep(refitted(one, found, Path(folder)))
            if found.failed is None:
                made.keep(replayed(one, found, Path(folder)))
    return _certificate(said, bundle, run_id, made.checks, found)


def _as_handed_in(root: Path, said: ChallengeFile, bundle: Bundle) -> Iterator[Check]:
    what = "every file is one of a challenge of this entry, and the one that was handed in"
    yield check("recomputed", what, form_faults(root, said, bundle), looked_at=f"{len(said.files)} files")


def _beside(challenge: Challenge, bundle: Bundle) -> Iterator[Check]:
    yield check("recomputed", "its rows can stand beside those of the entry", faults(challenge, bundle))
    what = "it holds no text, no place of a machine and no secret"
    yield check("recomputed", what, dict.fromkeys(leaks(challenge.root)))


def _refuse(root: Path, said: ChallengeFile, bundle: Bundle, how: How) -> None:
    """Refuse to run anybody's code unless that was allowed.

    Raises:
        UsageError: it was not.
    """
    code = [root / CODE] if needs_code(said) else []
    code += [bundle.root / CODE] if reading.needs_code(bundle.root) else []
    if code and not how.allow_code:
        raise UsageError(
            f"{root} is Python files of somebody's: read {' and '.join(map(str, code))}, and run them only where they "
            "can do no harm; then repeat the command with --allow-code"
        )


def _stored(one: Subject) -> Iterator[Check]:
    yield check("replayed", "what is stored is what the rows name", store_faults(one, one.root / PERTURBATIONS))


def _asked(one: Subject, said: ChallengeFile, bundle: Bundle, how: How) -> Asked:
    tasks = list(one.run.manifest.tasks)
    request = asked(bundle, attack_of(one.root, said), said.settings, tasks, how.device)
    return Asked(
        root=str(one.root),
        perturbations=str(one.root / PERTURBATIONS),
        defense=one.defense,
        request=request | {"offline": how.offline},
        spec=one.header["defenses"][one.defense]["spec"],
        share=None,
        times=how.times,
        seed=how.seed,
    )


def _certificate(
    said: ChallengeFile, bundle: Bundle, run_id: str, checks: list[Check], found: Found | None
) -> Certificate:
    return Certificate(
        entry=identity(said),
        suite=bundle.entry.suite.name,
        defense=said.defense,
        run_id=run_id,
        tier=tier(checks),
        checks=checks,
        seed=None,
        share=None,
        times=None,
        same_code=None if found is None else found.same_code,
        environment={} if found is None else found.environment,
        issued=datetime.now(UTC).isoformat(timespec="seconds"),
    )
