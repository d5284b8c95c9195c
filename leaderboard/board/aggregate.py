"""Runs in, leaderboard out: a pure function, and an atomic write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.files import write_atomically
from leaderboard.board.entries import score_entry
from leaderboard.board.order import ranked_entries
from leaderboard.board.paired_defenses import comparisons
from leaderboard.board.schema import Leaderboard, SuiteBoard, SuiteInfo
from leaderboard.board.stability import stabilities
from leaderboard.rows.run import Run
from leaderboard.scores.resampling import RESAMPLES, Resampler


def suite_board(runs: Sequence[Run], *, seed: int = 0, resamples: int = RESAMPLES) -> SuiteBoard:
    """Score every defense of every run and rank them.

    Args:
        seed: of the bootstrap; the same runs and seed give the same board.
        resamples: bootstrap resamples.

    Raises:
        UsageError: no run, or runs of different suites.
    """
    suite = suite_info(runs)
    resampler = Resampler(seed, resamples)
    by_run = [[score_entry(run, name, suite.tasks, resampler) for name in run.manifest.defenses] for run in runs]
    scored = [one for found in by_run for one in found]
    return SuiteBoard(
        suite=suite,
        entries=ranked_entries(scored),
        comparisons=comparisons(scored),
        stability=[one for run, found in zip(runs, by_run, strict=True) for one in stabilities(run, found)],
    )


def leaderboard(boards: Sequence[SuiteBoard], *, generated_at: datetime | None = None) -> Leaderboard:
    """What ``leaderboard.json`` holds.

    Args:
        generated_at: with a time zone; null: now.
    """
    time = (generated_at or datetime.now(UTC)).astimezone(UTC)
    return Leaderboard(generated_at=time.isoformat(timespec="seconds"), suites=list(boards))


def suite_info(runs: Sequence[Run]) -> SuiteInfo:
    """The suite of some runs.

    Raises:
        UsageError: there is no run, or they are of different suites.
    """
    if not runs:
        raise UsageError("a leaderboard needs at least one run; name its directory")
    suites = {run.manifest.suite.hash: run.manifest.suite for run in runs}
    if len(suites) > 1:
        named = ", ".join(sorted(f"{suite.name} {suite.version} ({suite.hash[:12]})" for suite in suites.values()))
        raise UsageError(
            f"the runs are of different suites: {named}; scores compare within one suite only: give runs of one"
        )
    suite = runs[0].manifest.suite
    declared = {task for run in runs for task in run.manifest.suite.tasks or ()}
    tasks = sorted(declared or {task for run in runs for task in run.manifest.tasks})
    return SuiteInfo(name=suite.name, version=suite.version, hash=suite.hash, tasks=tasks)


def write(board: Leaderboard, path: Path | str) -> None:
    """Write ``leaderboard.json``; readers see the old file or the new one, never a part."""
    target = Path(path)
    text = json.dumps(board.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, lambda draft: draft.write_text(text, encoding="utf-8"))
