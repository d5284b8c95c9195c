"""``python -m leaderboard.verification.pull_request``: verify every entry and challenge that a pull request hands in.

Nothing of the pull request is run, and nothing that it says reaches the log of the job: the summary is of escaped text.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.errors import BenchError
from leaderboard.bundle.entry import EntryFile
from leaderboard.bundle.layout import PERTURBATIONS
from leaderboard.bundle.reading import needs_code, read_entry
from leaderboard.challenge.reading import ChallengeFile, entry_of, is_challenge, read_said
from leaderboard.challenge.reading import needs_code as is_code
from leaderboard.verification import changed as changes
from leaderboard.verification.certificate import write
from leaderboard.verification.how import How
from leaderboard.verification.verify import verify

LONGEST = 300
"""Characters of a cell of the summary."""


class Verified(NamedTuple):
    """What came of an entry."""

    place: str
    ok: bool
    tier: str
    notes: list[str]
    """What does not hold, or was not done."""


def main(argv: Sequence[str] | None = None) -> int:
    """0: all that is handed in is allowed and holds."""
    asked = _parser().parse_args(argv)
    found = changes.changed(
        changed_paths(asked.repository, asked.base, asked.head),
        lambda name: _git(asked.repository, "show", f"{asked.base}:{name}"),
        lambda name: _git(asked.repository, "show", f"{asked.head}:{name}"),
    )
    made = (
        []
        if found.refused
        else [verified(asked.repository, one, asked.replay, asked.certificates) for one in found.new]
    )
    with asked.summary.open("a", encoding="utf-8") as file:
        file.write("\n".join(summary(found, made)) + "\n")
    ok = not found.refused and all(one.ok for one in made)
    print(f"{len(found.new)} new, {len(found.withdrawn)} withdrawn, {len(found.refused)} refused: see the summary")
    return int(not ok)


def changed_paths(repository: Path, base: str, head: str) -> list[changes.Path]:
    """What the head has changed since it left the base; a renamed file was deleted and added."""
    told = _git(repository, "diff", "--raw", "-z", "--no-renames", "--no-abbrev", f"{base}...{head}").split("\0")
    return [
        changes.Path(said.split()[4], said.split()[1], name) for said, name in zip(told[:-1:2], told[1::2], strict=True)
    ]


def verified(repository: Path, place: str, replayable: Sequence[str], certificates: Path) -> Verified:
    """Verify what is new; its certificate is written beside those of the others.

    Args:
        replayable: suites whose perturbations are replayed, where they are shared and no code is needed.
    """
    root = repository / place
    try:
        said, suite, code = _handed_in(root)
        replay = (root / PERTURBATIONS).is_dir() and not code and suite in replayable
        made = verify(str(root), How(replay=replay, device="cpu"))
        folder = certificates / Path(place).relative_to("leaderboard")
        folder.mkdir(parents=True, exist_ok=True)
        write(made, folder, said)
    except BenchError as error:
        return Verified(place, False, "claimed", [str(error)])
    notes = [f"{check.what}: {fault}" for check in made.checks if not check.ok for fault in check.evidence]
    if code:
        notes.append("it brings code, which was not run: a maintainer has to read it (bench verify --allow-code)")
    elif not replay:
        notes.append("recomputed only: nothing was replayed")
    return Verified(place, made.ok, made.tier, notes)


def _handed_in(root: Path) -> tuple[EntryFile | ChallengeFile, str, bool]:
    """What lists the files of a folder, the suite, and whether anything of it is code."""
    if not is_challenge(root):
        entry = read_entry(root)
        return entry, entry.suite.name, needs_code(root)
    said, attacked = read_said(root), entry_of(root)
    return said, read_entry(attacked).suite.name, is_code(said) or needs_code(attacked)


def summary(found: changes.Changed, made: Sequence[Verified]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "## What this pull request hands in"
    for line in found.refused:
        yield f"- not allowed: {_inert(line)}"
    for place in found.withdrawn:
        yield f"- withdrawn: {_inert(place)}"
    if found.refused:
        yield "\nNothing was verified."
    if made:
        yield "\n| what | holds | tier | notes |\n|---|---|---|---|"
    for one in made:
        notes = "<br>".join(map(_inert, one.notes))
        yield f"| {_inert(one.place)} | {'yes' if one.ok else '**no**'} | {one.tier} | {notes} |"


def _inert(text: str) -> str:
    """Text in which nothing is a tag, a link, a mention or the end of a cell."""
    plain = " ".join(text.split())[:LONGEST]
    inert = "".join(c if c.isalnum() or c in " ./" else f"&#{ord(c)};" for c in plain)
    return f"<code>{inert}</code>"


def _git(repository: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *command], check=True, capture_output=True)
    return done.stdout.decode("utf-8", errors="replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m leaderboard.verification.pull_request", description=__doc__)
    parser.add_argument("repository", type=Path, help="a checkout of the head, with the history of both")
    parser.add_argument("base", help="commit that the pull request is for")
    parser.add_argument("head", help="commit that is handed in")
    parser.add_argument("--replay", nargs="*", default=[], help="suites whose shared perturbations are replayed")
    parser.add_argument("--certificates", type=Path, required=True, help="folder to write them to")
    parser.add_argument("--summary", type=Path, required=True, help="file to add a table to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
