"""Verify an entry or a run, stage by stage, and say which tier it has."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from benchmark.errors import UsageError
from benchmark.values import sha
from leaderboard.board.side import OF, side
from leaderboard.bundle.entry import EntryFile, identity
from leaderboard.bundle.layout import PERTURBATIONS, SPEC, place
from leaderboard.bundle.leaks import leaks
from leaderboard.bundle.perturbations import PRIVATE
from leaderboard.bundle.reading import changed, is_entry, needs_code, read_entry, spec_faults, strangers
from leaderboard.challenge.reading import is_challenge
from leaderboard.verification import apart
from leaderboard.verification.again import Found
from leaderboard.verification.against import verify_challenge
from leaderboard.verification.certificate import Certificate, tier
from leaderboard.verification.checks import Check, Made, check
from leaderboard.verification.demanded import demanded
from leaderboard.verification.how import How
from leaderboard.verification.live import Asked
from leaderboard.verification.recomputed import Subject, recomputed, score_faults, subject
from leaderboard.verification.replayed import as_recorded, refitted, replayed, store_faults
from leaderboard.verification.rerun import Rerun, rerun, reruns


def verify(where: str, how: How | None = None, hear: Callable[[Check], None] = lambda _: None) -> Certificate:
    """Check ``ENTRY``, ``RUN_DIR[::DEFENSE]`` or a challenge.

    Args:
        hear: is told every check, as it is made.

    Raises:
        UsageError: there is no such thing, or what is asked cannot be done with it.
    """
    how = how or How()
    root = Path(where.partition(OF)[0])
    if is_challenge(root):
        return verify_challenge(root, how, hear)
    entry = read_entry(root) if is_entry(root) else None
    made = Made(hear)
    if entry is not None and not made.keep(_as_handed_in(root, entry)):
        return _certificate(entry, None, made.checks, how)
    chosen = side(where)
    one = subject(root, chosen.run, chosen.defense)
    sound = made.keep(_recomputed(one, entry, how))
    found, again = None, list[Rerun]()
    if how.live and sound:
        _refuse(one, entry, how)
    if how.live and sound and made.keep(_stored(one, entry, how)):
        with tempfile.TemporaryDirectory() as folder:
            found = _live(one, entry, how, Path(folder))
            made.keep(refitted(one, found, Path(folder)))
            if found.failed is None:
                made.keep(as_recorded(one, found))
            if how.replay and found.failed is None:
                made.keep(replayed(one, found, Path(folder)))
            if how.share is not None and found.failed is None:
                again = reruns(one, found, Path(folder))
                made.keep(rerun(one, found, Path(folder), again))
    return _certificate(entry, one, made.checks, how, found, again)


def _as_handed_in(root: Path, entry: EntryFile) -> Iterator[Check]:
    """Whether every file is one of an entry, and the one that was handed in; nothing is read before that is known."""
    yield check("recomputed", "it holds what an entry may hold, and nothing else", strangers(root))
    yield check(
        "recomputed",
        "every file is the one that was handed in",
        changed(root, entry.files),
        looked_at=f"{len(entry.files)} files",
    )


def _recomputed(one: Subject, entry: EntryFile | None, how: How) -> Iterator[Check]:
    yield from recomputed(one, demanded(one.run.manifest.suite.name))
    if entry is not None:
        yield check("recomputed", "it says of itself what its run says", _entry_faults(one, entry, how.placed))
        yield check("recomputed", "its spec names nothing outside of it", spec_faults(one.root))
        yield check("recomputed", "every score follows from the rows", score_faults(one))
        yield check(
            "recomputed", "it holds no text, no place of a machine and no secret", dict.fromkeys(leaks(one.root))
        )


def _entry_faults(one: Subject, entry: EntryFile, placed: bool) -> Iterator[str]:
    manifest = one.run.manifest
    said = {
        "suite": (
            entry.suite.model_dump(),
            {"name": manifest.suite.name, "version": manifest.suite.version, "hash": manifest.suite.hash},
        ),
        "defense": (entry.defense, one.defense),
        "spec_sha": (entry.spec_sha, manifest.defenses[one.defense].spec_sha),
        "run_id": (entry.run_id, manifest.run_id),
    }
    if sha(one.header["defenses"][one.defense].get("spec")) != entry.spec_sha:
        yield "the settings and code that its run recorded have another hash than it says"
    yield from (f"{name} is {mine}, and {theirs} in the run" for name, (mine, theirs) in said.items() if mine != theirs)
    owner, suite = entry.submitter.organisation, manifest.suite
    own, lies = place(suite.name, suite.version, owner, one.defense, entry.spec_sha), one.root.resolve().parts[-3:]
    if placed and lies != own:
        yield f"it lies in {'/'.join(lies)}, which is the place of another entry; its own is {'/'.join(own)}"


def _refuse(one: Subject, entry: EntryFile | None, how: How) -> None:
    """Refuse what cannot be done, before any work.

    Raises:
        UsageError: code that was not allowed, or perturbations that are not there.
    """
    if entry is not None and needs_code(one.root) and not how.allow_code:
        raise UsageError(
            f"{one.defense} is a Python file of somebody's: read {one.root / 'code'}, and run it only where it can do "
            "no harm; then repeat the command with --allow-code"
        )
    if not how.replay:
        return
    folder = _perturbations(one, entry, how)
    if not folder.is_dir():
        raise UsageError(
            f"{one.root} has no perturbations to replay: give the folder of them by --perturbations, or leave --replay "
            "out; whoever handed it in can share them (bench submit --with-perturbations)"
        )


def _stored(one: Subject, entry: EntryFile | None, how: How) -> Iterator[Check]:
    if how.replay:
        faults = store_faults(one, _perturbations(one, entry, how))
        yield check("replayed", "what is stored is what the rows name", faults)


def _perturbations(one: Subject, entry: EntryFile | None, how: How) -> Path:
    return how.perturbations or one.root / (PRIVATE if entry is None else PERTURBATIONS)


def _live(one: Subject, entry: EntryFile | None, how: How, folder: Path) -> Found:
    """Fit, replay and attack in a process of its own."""
    asked = Asked(
        root=str(one.root),
        perturbations=str(_perturbations(one, entry, how)) if how.replay else None,
        defense=one.defense,
        request=_request(one, entry, how, folder),
        spec=one.header["defenses"][one.defense]["spec"],
        share=how.share,
        times=how.times,
        seed=how.seed,
    )
    return apart.ask(asked, folder)


def _request(one: Subject, entry: EntryFile | None, how: How, folder: Path) -> dict[str, JsonValue]:
    """Fields of the request that runs the defense as it was run."""
    spec = one.root / SPEC
    if entry is None:
        recipe = one.header["defenses"][one.defense].get("recipe")
        if recipe is None:
            raise UsageError(f"no spec makes {one.defense} again, which was made in Python; write one, and run that")
        spec = folder / SPEC
        spec.write_text(json.dumps(recipe), "utf-8")
    manifest = one.run.manifest
    return {
        "defense": [str(spec.resolve())],
        "suite": manifest.suite.name,
        "seed": manifest.seed,
        "dtype": manifest.dtype,
        "device": how.device,
        "offline": how.offline,
    }


def _certificate(
    entry: EntryFile | None,
    one: Subject | None,
    checks: list[Check],
    how: How,
    found: Found | None = None,
    again: list[Rerun] | None = None,
) -> Certificate:
    name = one.run.manifest.suite.name if one else entry.suite.name if entry else ""
    ran = found is not None and how.share is not None
    return Certificate(
        entry=None if entry is None else identity(entry),
        suite=name,
        defense=one.defense if one else entry.defense if entry else "",
        run_id=one.run.manifest.run_id if one else entry.run_id if entry else "",
        tier=tier(checks),
        checks=checks,
        reruns=again or [],
        seed=how.seed if ran else None,
        share=how.share if ran else None,
        times=how.times if ran else None,
        same_code=None if found is None else found.same_code,
        environment={} if found is None else found.environment,
        issued=datetime.now(UTC).isoformat(timespec="seconds"),
    )
