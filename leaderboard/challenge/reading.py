"""``leaderboard/challenges``: rows of stronger attacks, each against one entry, whose unattacked rows they share.

challenge.json        who attacked which entry, and the SHA-256 of every other file
run.json, plan.json   of the run that attacked, less what is of the machine
rows.parquet          its rows
fits/                 what fitting the defense anew found
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import JsonValue, ValidationError

from benchmark.errors import BenchError, RunDirectoryError, UsageError
from benchmark.files import digest_of
from leaderboard.bundle.entry import Digest
from leaderboard.bundle.form import Form
from leaderboard.bundle.layout import FITS, PLAN, ROWS, RUN
from leaderboard.bundle.reading import Bundle
from leaderboard.rows.files import Rows
from leaderboard.rows.recorded import strict_json
from leaderboard.rows.run import MeasuredCell, Run, read_run
from leaderboard.scores.values import Strict
from leaderboard.verification.certificate import identity
from leaderboard.verification.rows_hold import cell_faults, company_faults

FILE = "challenge.json"
CHALLENGES = Path("leaderboard") / "challenges"
"""Where they lie in the repository, each at the place of its entry."""


class ChallengeFile(Strict):
    """``challenge.json``."""

    schema_version: Literal[1] = 1
    entry: Digest
    """Hash of the entry that was attacked."""
    defense: str
    attack: str
    settings: dict[str, JsonValue]
    """That differ from those of the suite."""
    challenger: Form
    submitted: date
    files: dict[str, Digest]
    """Of every other file: its place, and its SHA-256."""


class Challenge(NamedTuple):
    """A stronger attack against an entry."""

    root: Path
    said: ChallengeFile
    run: Run

    @property
    def attacks(self) -> list[MeasuredCell]:
        """Its cells that count against the defense."""
        return [c for c in self.run.cells if c.plan.defense == self.said.defense and c.scored]


def read_challenge(root: Path, bundle: Bundle) -> Challenge:
    """A challenge of an entry.

    Raises:
        UsageError: it is not of this entry, or its rows do not hold or contradict the entry's.
        RunDirectoryError: a file cannot be read.
    """
    said = _said(root)
    wrong = list(_strange(root, said, bundle))
    if not wrong:
        found = Challenge(root, said, read_run(root))
        wrong = list(faults(found, bundle))
        if not wrong:
            return found
    raise UsageError(f"{root} does not count against {bundle.root}: {'; '.join(wrong[:8])}; make it again")


def found_for(bundle: Bundle, challenges: Path) -> tuple[list[Challenge], list[str]]:
    """The challenges of an entry below a folder, in order; and why others do not count."""
    folder, kept, refused = challenges.joinpath(*bundle.root.resolve().parts[-3:]), list[Challenge](), list[str]()
    for file in sorted(folder.glob(f"*/{FILE}")):
        try:
            kept.append(read_challenge(file.parent, bundle))
        except BenchError as error:
            refused.append(str(error))
    return kept, refused


def faults(challenge: Challenge, bundle: Bundle) -> Iterator[str]:
    """Sentences about rows that cannot stand beside the entry's."""
    mine, theirs = challenge.run.manifest, bundle.run.manifest
    same = {
        "suite": (mine.suite.hash, theirs.suite.hash),
        "model": (mine.model.weights_sha, theirs.model.weights_sha),
        "dtype": (mine.dtype, theirs.dtype),
    }
    yield from (f"its {name} is {one}, and {other} in the entry" for name, (one, other) in same.items() if one != other)
    if mine.status != "complete" or mine.limit is not None:
        yield "its run is not whole"
    if not challenge.attacks:
        yield f"it attacked {challenge.said.defense} under no threat model that is scored"
    for task in {cell.plan.task for cell in challenge.attacks}:
        if mine.tasks.get(task) != theirs.tasks.get(task):
            yield f"what its run says of {task} is not what the entry's says"
    yield from _rows(challenge, bundle)


def _rows(challenge: Challenge, bundle: Bundle) -> Iterator[str]:
    old, new = Rows(bundle.root), Rows(challenge.root)
    beside = [(c.plan, old.cell(c.plan.key).rows) for c in bundle.run.cells if c.plan.defense == bundle.entry.defense]
    known = {plan.task: _clusters(rows) for plan, rows in beside}
    attacked = [(c.plan, new.cell(c.plan.key).rows) for c in challenge.attacks]
    for plan, rows in attacked:
        yield from cell_faults(plan, rows, challenge.run.manifest.run_id, known.get(plan.task, {}))
    yield from company_faults([*beside, *attacked])


def _clusters(rows: object) -> dict[str, str]:
    pairs = rows.select(["example_id", "cluster_id"]).to_pylist()  # type: ignore[attr-defined]
    return {pair["example_id"]: pair["cluster_id"] for pair in pairs}


def _said(root: Path) -> ChallengeFile:
    try:
        return ChallengeFile.model_validate(strict_json(root / FILE))
    except (ValidationError, OSError) as error:
        raise RunDirectoryError(f"{root / FILE} cannot be read: {str(error).splitlines()[0]}; make it again") from error


def _strange(root: Path, said: ChallengeFile, bundle: Bundle) -> Iterator[str]:
    if said.entry != identity(bundle.entry):
        yield "it is of another entry"
    there = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if not path.is_dir()}
    there.pop(FILE, None)
    for name, path in sorted(there.items()):
        plain = name in (RUN, PLAN, ROWS) or (
            path.parent.name == FITS and path.suffix == ".json" and name.count("/") == 1
        )
        if path.is_symlink() or not plain:
            yield f"{name!r:.80} is no file of a challenge"
        elif said.files.get(name) != digest_of(path):
            yield f"{name} was changed: it has another hash"
    yield from (f"{name!r:.80} is missing" for name in sorted(set(said.files) - set(there)))
