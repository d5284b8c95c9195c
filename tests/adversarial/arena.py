"""Where a defense is judged as the board would judge it: evaluated on the organism, scored, its doubts listed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark import Defense, evaluate
from leaderboard.board.aggregate import suite_board
from leaderboard.board.schema import Entry
from leaderboard.rows.run import read_run

TASK = "ioi"
SUITE = """
name: in-front
extends: embedded
limit: 16
sample: 128
attacks: [{attack: recovery, threat_model: before_edit, restarts: 2, search: {steps: 10}}]
"""
"""The shipped suite, its tasks attacked in front of the defense alone; what is learned from is a sample."""
RESAMPLES = 200


def judged(defenses: Sequence[Defense | str], folder: Path, **options: Any) -> dict[str, Entry]:
    """The entry of each defense, by name: on one task of ``SUITE``, without controls, unless told otherwise."""
    suite = folder.parent / "in_front.yaml"
    suite.write_text(SUITE)
    asked: dict[str, Any] = {"suite": str(suite), "tasks": [TASK], "controls": False, **options}
    result = evaluate(list(defenses), output_dir=folder, **asked)
    board = suite_board([read_run(result.directory)], resamples=RESAMPLES)
    return {entry.defense.name: entry for entry in board.entries}


def barring(entry: Entry) -> set[str]:
    """Codes of the flags that keep an entry from being ranked."""
    return {flag.code for flag in entry.flags if flag.effect == "invalid" or (flag.effect != "ok" and flag.scored)}
