"""Runs in, leaderboard out: a pure function, and an atomic write."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmark.errors import UsageError
from leaderboard.entries import score_entry
from leaderboard.paired import comparisons
from leaderboard.ranking import ranked_entries
from leaderboard.resampling import RESAMPLES, Resampler
from leaderboard.runs import Run, read_run
from leaderboard.schema import Leaderboard, SuiteInfo

__all__ = ["leaderboard", "read_run", "write"]


def leaderboard(
    runs: Sequence[Run], *, seed: int = 0, resamples: int = RESAMPLES, generated_at: datetime | None = None
) -> Leaderboard:
    """Score every defense of every run and rank them.

    Args:
        seed: of the bootstrap; the same runs and seed give the same file but for ``generated_at``.
        resamples: bootstrap resamples.
        generated_at: with a time zone; null: now.

    Raises:
        UsageError: no run, or runs of different suites.
    """
    suite = _suite(runs)
    resampler = Resampler(seed, resamples)
    scored = [score_entry(run, defense, suite.tasks, resampler) for run in runs for defense in run.manifest.defenses]
    time = (generated_at or datetime.now(UTC)).astimezone(UTC)
    return Leaderboard(
        suite=suite,
        generated_at=time.isoformat(timespec="seconds"),
        entries=ranked_entries(scored),
        comparisons=comparisons(scored),
    )


def _suite(runs: Sequence[Run]) -> SuiteInfo:
    if not runs:
        raise UsageError("a leaderboard needs at least one run")
    suites = {run.manifest.suite.hash: run.manifest.suite for run in runs}
    if len(suites) > 1:
        named = ", ".join(sorted(f"{suite.name} {suite.version} ({suite.hash[:12]})" for suite in suites.values()))
        raise UsageError(f"the runs are of different suites: {named}; scores compare within one suite only")
    suite = runs[0].manifest.suite
    declared = {task for run in runs for task in run.manifest.suite.tasks or ()}
    tasks = sorted(declared or {task for run in runs for task in run.manifest.tasks})
    return SuiteInfo(name=suite.name, version=suite.version, hash=suite.hash, tasks=tasks)


def write(board: Leaderboard, path: Path | str) -> None:
    """Write ``leaderboard.json``; readers see the old file or the new one, never a part."""
    target = Path(path)
    text = json.dumps(board.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp is private to its user; a leaderboard is for everybody.
        Path(draft).chmod(0o644)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
