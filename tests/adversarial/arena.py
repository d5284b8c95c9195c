"""Where a defense is judged as the board would judge it: evaluated on the organism, scored, its doubts listed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark import Defense, evaluate
from leaderboard.board.aggregate import leaderboard
from leaderboard.board.schema import Entry
from leaderboard.rows.run import read_run

TASK = "ioi"
EXAMPLES = 40
RESAMPLES = 200


def judged(defenses: Sequence[Defense | str], folder: Path, **options: Any) -> dict[str, Entry]:
    """The entry of each defense, by name: on some test examples of one task, the main attack alone by default."""
    asked: dict[str, Any] = {"tasks": [TASK], "attacks": ["recovery"], "limit": EXAMPLES, "controls": False, **options}
    result = evaluate(list(defenses), output_dir=folder, **asked)
    board = leaderboard([read_run(result.directory)], resamples=RESAMPLES)
    return {entry.defense.name: entry for entry in board.entries}


def barring(entry: Entry) -> set[str]:
    """Codes of the flags that keep an entry from being ranked."""
    return {flag.code for flag in entry.flags if flag.effect == "invalid" or (flag.effect != "ok" and flag.scored)}
