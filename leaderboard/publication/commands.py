"""The verb ``publish``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.errors import UsageError

if TYPE_CHECKING:
    from leaderboard.publication.changes import Change
    from leaderboard.publication.publication import Publication


def publish(
    entries: Annotated[Path | None, typer.Argument(help="Folder of entries. Default: leaderboard/entries.")] = None,
    *,
    to: Annotated[str, typer.Option(help="A folder, or hf:OWNER/NAME, a data set repository of the hub.")],
    yes: Annotated[bool, typer.Option("--yes", help="Write to the hub. Without it, what would be is printed.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Only you see a repository that is made new.")] = False,
    with_artifacts: Annotated[
        bool, typer.Option("--with-artifacts", help="Also code, weights and perturbations that entries share.")
    ] = False,
) -> None:
    """Publish entries and their board as a data set. What was published before and is not handed in any more, stays.

    Exit code 1: an entry was left out.
    """
    from leaderboard.publication.publication import publication
    from leaderboard.publication.repository import HUB
    from leaderboard.submission.submit import ENTRIES

    on_hub = to.startswith(HUB)
    if not on_hub and (yes or private):
        raise UsageError("--yes and --private are for the hub; leave them out, or give --to hf:OWNER/NAME")
    made = publication(entries or ENTRIES, artifacts=with_artifacts)
    if on_hub:
        _to_hub(made, to, yes, private)
    else:
        _to_folder(made, to)
    for line in made.left_out:
        print(f"left out: {line}", file=sys.stderr)
    raise typer.Exit(int(bool(made.left_out)))


def _to_folder(made: Publication, to: str) -> None:
    from leaderboard.publication.folder import write

    _tell(write(made, Path(to)))
    print(to)


def _to_hub(made: Publication, to: str, yes: bool, private: bool) -> None:
    from leaderboard.publication.changes import changes, refuse_foreign
    from leaderboard.publication.repository import Seen, look, parse, upload

    repository = parse(to)
    try:
        seen = look(repository)
    except UsageError as error:
        if yes:
            raise
        seen = Seen({}, None)
        print(f"what is there already is not known ({error})", file=sys.stderr)
    else:
        if seen.commit is None:
            print(f"there is no {repository} that you may see: it would be made", file=sys.stderr)
    refuse_foreign(to, seen.files)
    found = changes(made.files, seen.files)
    _tell(found)
    if yes:
        print(upload(repository, made.files, found, seen, private=private))
    else:
        print("nothing was written; give --yes to publish this", file=sys.stderr)


def _tell(found: Sequence[Change]) -> None:
    for change in found:
        print(f"{change.kind:<8}{change.size:>14,}  {change.place}")
    print(f"{len(found)} files, {sum(change.size for change in found):,} bytes", file=sys.stderr)
