"""What two measurements must have in common, so that their numbers may be compared."""

from __future__ import annotations

from leaderboard.board.schema import Entry


def conditions(entry: Entry, task: str) -> dict[str, str | None]:
    """By what it is: model, dtype, protocol and the very same examples of a task; null: not known."""
    model, provenance = entry.model, entry.provenance
    return {
        "model": f"{model.id} {model.weights_sha or model.revision or ''}".strip(),
        "dtype": provenance.dtype,
        "protocol": provenance.protocol,
        f"test examples of {task}": provenance.examples_hash[task],
    }
