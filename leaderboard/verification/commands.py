"""The verb ``verify``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.errors import UsageError
from benchmark.terminal import terminal

if TYPE_CHECKING:
    from leaderboard.verification.checks import Check


def verify(
    what: Annotated[
        str, typer.Argument(help="An entry's folder or ZIP file, a challenge's, or a run directory, RUN_DIR::DEFENSE.")
    ],
    replay: Annotated[
        bool, typer.Option("--replay", help="Fit the defense and measure every stored perturbation on the live model.")
    ] = False,
    rerun: Annotated[
        float | None, typer.Option(help="Attack this share of the cells again, harder, from nothing: 0.1 for a tenth.")
    ] = None,
    times: Annotated[int, typer.Option(help="Steps and restarts of --rerun, as a multiple of the run's.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the cells that --rerun takes, and of its searches.")] = 1,
    perturbations: Annotated[
        Path | None, typer.Option(help="Folder of what --replay measures. Default: the entry's, or the run's own.")
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run a defense that is a Python file. Read it before.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the network.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
) -> None:
    """Check a result: that scores follow from rows, rows from perturbations, and no harder attack does better.

    Writes certificate.json into the folder of an entry or a challenge. Exit code 1: something does not hold.
    """
    from leaderboard.bundle.archive import ENDING, unpacked
    from leaderboard.bundle.layout import CERTIFICATE
    from leaderboard.bundle.reading import read_entry
    from leaderboard.challenge.reading import is_challenge, read_said
    from leaderboard.verification.certificate import write
    from leaderboard.verification.how import How
    from leaderboard.verification.verify import verify as made

    if rerun is not None and not 0 < rerun <= 1:
        raise UsageError(f"--rerun {rerun:g}: write a share above 0 and at most 1")
    if times < 1:
        raise UsageError(f"--times {times}: write a whole number, at least 1")
    console = terminal(stderr=as_json)

    def hear(one: Check) -> None:
        console.print(f"{'ok     ' if one.ok else 'WRONG  '}{one.stage}: {one.what}", soft_wrap=True)
        for line in one.evidence:
            console.print(f"         {line}", soft_wrap=True)

    packed = what.endswith(ENDING)
    how = How(replay, rerun, times, seed, perturbations, allow_code, device, offline, not packed)
    with unpacked(Path(what)) if packed else nullcontext(what) as folder:
        found = made(str(folder), how, hear)
    if found.entry is not None and not packed:
        root = Path(what)
        written = write(found, root, read_said(root) if is_challenge(root) else read_entry(root))
        kept = "wrote" if written else "nothing is wrong, and more was checked before: kept"
        console.print(f"{kept} {root / CERTIFICATE}", soft_wrap=True)
    if rerun is not None and not replay and found.ok:
        console.print("a tier supposes those before it: give --replay too for more than recomputed", soft_wrap=True)
    console.print(f"{found.defense} on {found.suite}: {found.tier}", soft_wrap=True)
    if as_json:
        print(found.model_dump_json(indent=1))
    raise typer.Exit(0 if found.ok else 1)
