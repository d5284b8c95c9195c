"""A run becomes an entry: what may not be handed in is refused with what to do, and nothing half done is left."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.files import remedy, write_atomically
from benchmark.names import checked_name
from leaderboard.board.side import Side
from leaderboard.bundle.entry import EntryFile, SuiteName, Withdrawn
from leaderboard.bundle.form import Form
from leaderboard.bundle.layout import ENTRY, FITS, PLAN, ROWS, RUN, SCORES, place
from leaderboard.bundle.leaks import leaks
from leaderboard.bundle.perturbations import share
from leaderboard.bundle.public import public_header, public_plan
from leaderboard.bundle.reading import digests, is_entry, read_entry
from leaderboard.rows.files import Rows, write_together
from leaderboard.rows.recorded import strict_json
from leaderboard.rows.run import read_run
from leaderboard.submission.parts import with_parts
from leaderboard.verification.demanded import demanded
from leaderboard.verification.recomputed import Subject, recomputed, scores_of, subject

ENTRIES = Path("leaderboard") / "entries"
"""Where entries lie in the repository."""


def submit(
    root: Path,
    side: Side,
    form: Form,
    entries: Path = ENTRIES,
    *,
    perturbations: bool = False,
    today: date | None = None,
) -> Path:
    """Make an entry of a run.

    Args:
        root: the run directory.
        side: the run, and which of its defenses is handed in.
        perturbations: share what each recovery wrote, so that anybody can replay it.
        today: the day of the submission; None: it is today.

    Returns:
        Its folder; of a run that was handed in already, the one that it has.

    Raises:
        UsageError: the run cannot be handed in, for each reason with what to do; or another run of the same defense
            was.
        RunDirectoryError: a file of the run is damaged.
    """
    one = subject(root, side.run, side.defense)
    spec = _spec(one)
    suite = side.run.manifest.suite
    spec_sha = side.run.manifest.defenses[side.defense].spec_sha
    target = entries.joinpath(*place(suite.name, suite.version, form.organisation, side.defense, spec_sha))
    if is_entry(target) and read_entry(target).run_id == side.run.manifest.run_id:
        return target
    if target.exists():
        raise UsageError(
            f"{target} is there already, of another run of this defense; give it other settings, or withdraw the entry"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as draft:
            made = Path(draft) / "entry"
            _fill(made, one, spec, form, perturbations, today or date.today())
            made.replace(target)
    except OSError as error:
        what, do = remedy(error)
        raise UsageError(f"cannot write {target}: {what}; {do} and repeat the command") from error
    return target


def _spec(one: Subject) -> Mapping[str, Any]:
    """The recipe of the defense; what it says is of no edition, since one reads other SAEs than its spec says."""
    record = one.header["defenses"][one.defense]
    if "recipe" not in record:
        raise UsageError(f"{one.root} does not say what makes {one.defense}: repeat the run with this version")
    if record["recipe"] is None:
        raise UsageError(
            f"{one.defense} was made in Python, and no spec makes it again: write a spec file, or name its class as "
            "file.py:Class, and run that"
        )
    if record.get("family", one.defense) != one.defense:
        raise UsageError(
            f"{one.defense} reads a further SAE of its run's suite; name that SAE in a spec (`layers: [{{site: ..., "
            "sae: ...}}]`), and run that"
        )
    return record["recipe"]


def _fill(made: Path, one: Subject, spec: Mapping[str, Any], form: Form, perturbations: bool, today: date) -> None:
    """Write an entry, whole, or refuse."""
    attacked = {cell.defense for cell in one.run.planned if cell.attacks}
    kept = {one.defense, *(set(one.run.manifest.defenses) - attacked)}
    made.mkdir()
    _json(made / RUN, public_header(one.header, one.plan, kept))
    _json(made / PLAN, public_plan(strict_json(one.root / PLAN), kept))
    rows = Rows(one.root)
    cells = {cell.key: rows.cell(cell.key) for cell in one.planned if cell.defense in kept and rows.has(cell.key)}
    write_together(made / ROWS, cells)
    _fits(one.root, made, kept)
    with_parts(made, spec, one.run.manifest.defenses[one.defense].spec_sha)
    if perturbations:
        share(one.root, made, (cell.perturbations for cell in cells.values()))
    run = read_run(made)
    _json(made / SCORES, scores_of(run, one.defense))
    _refuse(one, made)
    suite = one.run.manifest.suite
    entry = EntryFile(
        suite=SuiteName(name=suite.name, version=suite.version, hash=suite.hash),
        defense=one.defense,
        spec_sha=one.run.manifest.defenses[one.defense].spec_sha,
        run_id=one.run.manifest.run_id,
        submitter=form,
        submitted=today,
        files=digests(made),
    )
    _json(made / ENTRY, entry.model_dump(mode="json"))


def _refuse(one: Subject, made: Path) -> None:
    """Refuse what would not be verified, or must not be published.

    Raises:
        UsageError: with all reasons.
    """
    suite = one.run.manifest.suite.name
    copy = subject(made, read_run(made), one.defense)
    failed = [check for check in recomputed(copy, demanded(suite)) if not check.ok]
    reasons = [reason for check in failed for reason in check.evidence]
    reasons += list(dict.fromkeys(leaks(made)))
    if reasons:
        shown = "\n  ".join(reasons[:20])
        raise UsageError(f"{one.root} cannot be handed in; nothing was written. Correct this first:\n  {shown}")


def _fits(root: Path, made: Path, kept: set[str]) -> None:
    (made / FITS).mkdir()
    for file in sorted((root / FITS).glob("*.json")):
        record = json.loads(file.read_text("utf-8"))
        if record.get("defense") in kept:
            _json(made / FITS / file.name, record)


def _json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")


def withdraw(root: Path, why: str, *, today: date | None = None) -> None:
    """Mark an entry as withdrawn; it stays on the board, and is ranked no more.

    Raises:
        UsageError: it is no entry, was withdrawn already, or no reason is given.
    """
    entry = read_entry(root)
    if entry.withdrawn is not None:
        raise UsageError(f"{root} was withdrawn on {entry.withdrawn.on}: {entry.withdrawn.why}; leave it as it is")
    said = Withdrawn(on=today or date.today(), why=checked_name(why, "--why"))
    changed = entry.model_copy(update={"withdrawn": said})
    write_atomically(root / ENTRY, lambda draft: _json(draft, changed.model_dump(mode="json")))
