"""``leaderboard/challenges``: rows of stronger attacks, each against one entry, whose unattacked rows they share.

challenge.json        who attacked which entry, and the SHA-256 of every other file
run.json, plan.json   of the run that attacked, less what is of the machine
rows.parquet          its rows
fits/                 what fitting the defense anew found
perturbations/        by content: what each recovery wrote
code/                 the attack's Python file, if it is one
certificate.json      what a maintainer has checked; before its recoveries were replayed, none of them counts
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import JsonValue, ValidationError

from benchmark.errors import BenchError, RunDirectoryError, UsageError
from benchmark.registry import is_reference
from leaderboard.bundle.entry import Digest, identity
from leaderboard.bundle.form import Form
from leaderboard.bundle.layout import CODE, PLAN, ROWS, RUN
from leaderboard.bundle.reading import Bundle, changed, is_entry, strangers
from leaderboard.bundle.rows_hold import cell_faults, company_faults
from leaderboard.rows.files import Rows
from leaderboard.rows.recorded import strict_json
from leaderboard.rows.run import MeasuredCell, Run, read_run
from leaderboard.scores.values import Strict

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
    said = read_said(root)
    wrong = list(form_faults(root, said, bundle))
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


def is_challenge(folder: Path) -> bool:
    """Whether a folder says that it is a challenge."""
    return (folder / FILE).is_file()


def entry_of(root: Path) -> Path:
    """The folder of the entry that a challenge is against: at the same place, among the entries beside the challenges.

    Raises:
        UsageError: there is none.
    """
    challenges, place = root.resolve().parents[3], root.resolve().parts[-4:-1]
    entry = challenges.parent.joinpath("entries", *place)
    if not is_entry(entry):
        raise UsageError(f"{root} is a challenge of {entry}, which is not there: put it beside the entries")
    return entry


def needs_code(challenge: ChallengeFile) -> bool:
    """Whether the attack is a Python file of somebody's."""
    return is_reference(challenge.attack)


def attack_of(root: Path, said: ChallengeFile) -> str:
    """The attack, as a request names it."""
    return str((root / CODE).resolve() / said.attack) if needs_code(said) else said.attack


def read_said(root: Path) -> ChallengeFile:
    """``challenge.json`` of a folder.

    Raises:
        RunDirectoryError: it cannot be read.
    """
    try:
        return ChallengeFile.model_validate(strict_json(root / FILE))
    except (ValidationError, OSError) as error:
        raise RunDirectoryError(f"{root / FILE} cannot be read: {str(error).splitlines()[0]}; make it again") from error


def form_faults(root: Path, said: ChallengeFile, bundle: Bundle) -> Iterator[str]:
    """Sentences about files that are not those of a challenge of this entry."""
    if said.entry != identity(bundle.entry):
        yield "it is of another entry"
    yield from strangers(root, FILE)
    yield from changed(root, said.files, (RUN, PLAN, ROWS), FILE)
    file, _, kind = said.attack.rpartition(":")
    if is_reference(said.attack) and (not kind or f"{CODE}/{file}" not in said.files):
        yield f"its attack is {said.attack!r:.80}, and that file is not in it"
