"""Attack an entry with something stronger, and record what it brings back."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import UsageError
from benchmark.files import file_name
from benchmark.registry import is_reference
from benchmark.run.fingerprint import difference
from benchmark.run.listener import Listener
from benchmark.run.request import Request
from benchmark.run.runner import evaluate
from leaderboard.bundle.entry import identity
from leaderboard.bundle.form import Form
from leaderboard.bundle.layout import CODE, FITS, PLAN, ROWS, RUN
from leaderboard.bundle.leaks import leaks
from leaderboard.bundle.perturbations import share
from leaderboard.bundle.public import public_header, public_plan
from leaderboard.bundle.reading import Bundle, digests
from leaderboard.challenge.best_known import Fall, falls
from leaderboard.challenge.reading import CHALLENGES, FILE, Challenge, ChallengeFile, faults
from leaderboard.challenge.running import asked
from leaderboard.rows.files import Rows, write_together
from leaderboard.rows.plan import Plan
from leaderboard.rows.recorded import parse, strict_json
from leaderboard.rows.run import Run, read_run


class Recorded(NamedTuple):
    """What came of a challenge."""

    folder: Path | None
    """None: nothing that held came back, and nothing is recorded."""
    falls: list[Fall]


def challenge(
    bundle: Bundle,
    attack: str,
    settings: Mapping[str, Any],
    form: Form,
    *,
    tasks: Sequence[str] | None = None,
    directory: Path | None = None,
    challenges: Path = CHALLENGES,
    device: str = "auto",
    listener: Listener | None = None,
    today: date | None = None,
) -> Recorded:
    """Run an attack against an entry's defense, and record its rows if it brings back what held.

    Args:
        attack: a registered name, or ``file.py:Class``.
        settings: of it, on top of the suite's.
        tasks: of the suite; None: all.
        directory: of the run; the same call resumes.
        challenges: where it is recorded.

    Raises:
        UsageError: it cannot be run, or its rows cannot stand beside the entry's.
    """
    fields = asked(bundle, attack, settings, tasks, device)
    request = Request.make(fields if directory is None else fields | {"output_dir": directory}, "challenge")
    result = evaluate(request, listener=listener)
    if result.status != "complete":
        raise UsageError(f"{result.failed} cells of {result.directory} failed: repeat the command to try them again")
    run = read_run(result.directory)
    if not any(cell.scored for cell in run.cells):
        raise UsageError(
            f"{attack} counts against no defense: it is a control, or writes under no threat model that is scored; "
            "give an attack that searches for the behavior"
        )
    _refuse_other_fits(bundle, run)
    return _recorded(bundle, result.directory, run, (attack, settings), form, challenges, today or date.today())


def _refuse_other_fits(bundle: Bundle, run: Run) -> None:
    for (task, defense), fit in run.fits.items():
        before = bundle.run.fits.get((task, defense))
        if before is not None and before.fingerprint and fit.fingerprint:
            why = difference(before.fingerprint, fit.fingerprint)
            if why is not None:
                raise UsageError(
                    f"fitted on {task} it is another defense than the entry's: {why}; take the version of "
                    f"the code that the entry was made with ({(bundle.run.manifest.git or {}).get('commit')})"
                )


def _recorded(
    bundle: Bundle,
    source: Path,
    run: Run,
    what: tuple[str, Mapping[str, Any]],
    form: Form,
    challenges: Path,
    today: date,
) -> Recorded:
    attack, settings = what
    name = file_name(form.organisation.strip().lower().replace(" ", "-"), Path(attack).name, run.manifest.run_id[:8])
    target = challenges.joinpath(*bundle.root.resolve().parts[-3:]) / name
    if target.exists():
        raise UsageError(f"{target} is there already: this run was recorded; give other settings, or another seed")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as draft:
        made = Path(draft) / "challenge"
        made.mkdir()
        _fill(made, source, run, bundle.entry.defense)
        _with_code(made, attack)
        said = ChallengeFile(
            entry=identity(bundle.entry),
            defense=bundle.entry.defense,
            attack=Path(attack).name,
            settings=dict(settings),
            challenger=form,
            submitted=today,
            files=digests(made, FILE),
        )
        found = Challenge(made, said, read_run(made))
        wrong = [*faults(found, bundle), *dict.fromkeys(leaks(made))]
        if wrong:
            raise UsageError(f"this cannot be recorded; correct it first: {'; '.join(wrong[:8])}")
        fell = falls(bundle.run, [found])
        if not any(one.fell for one in fell):
            return Recorded(None, fell)
        (made / FILE).write_text(json.dumps(said.model_dump(mode="json"), indent=1) + "\n", "utf-8")
        made.replace(target)
    return Recorded(target, fell)


def _with_code(made: Path, attack: str) -> None:
    """An attack of somebody's own comes along, so that what it found can be measured again."""
    if is_reference(attack):
        file = Path(attack.rpartition(":")[0])
        (made / CODE).mkdir()
        shutil.copyfile(file, made / CODE / file.name)


def _fill(made: Path, source: Path, run: Run, defense: str) -> None:
    plan = parse(Plan, source / PLAN)
    (made / RUN).write_text(json.dumps(public_header(strict_json(source / RUN), plan, {defense})), "utf-8")
    content = public_plan(strict_json(source / PLAN), {defense})
    kept = {cell.plan.key for cell in run.cells if cell.plan.defense == defense and cell.scored}
    content["cells"] = [cell for cell in content["cells"] if cell["key"] in kept]
    (made / PLAN).write_text(json.dumps(content), "utf-8")
    rows = Rows(source)
    cells = {key: rows.cell(key) for key in sorted(kept)}
    write_together(made / ROWS, cells)
    share(source, made, (cell.perturbations for cell in cells.values()))
    (made / FITS).mkdir()
    for file in sorted((source / FITS).glob("*.json")):
        record = json.loads(file.read_text("utf-8"))
        if record["defense"] == defense:
            (made / FITS / file.name).write_text(json.dumps(record), "utf-8")
