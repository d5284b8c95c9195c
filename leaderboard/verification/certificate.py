"""``certificate.json``: what was checked of an entry, by which code, and the tier that follows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import JsonValue, ValidationError

from benchmark.files import write_atomically
from leaderboard.board.schema import Tier
from leaderboard.bundle.entry import identity
from leaderboard.bundle.layout import CERTIFICATE
from leaderboard.rows.recorded import strict_json
from leaderboard.scores.values import Strict
from leaderboard.verification.checks import STAGES, Check
from leaderboard.verification.replayed import DONE
from leaderboard.verification.rerun import Rerun

CLAIMED: Tier = "claimed"


class Certificate(Strict):
    """What ``bench verify`` found."""

    schema_version: Literal[1] = 1
    entry: str | None
    """Hash of the entry, or the challenge, that it is about; null: a run that nobody has handed in."""
    suite: str
    defense: str
    run_id: str
    tier: Tier
    checks: list[Check]
    reruns: list[Rerun] = []
    seed: int | None
    """Of the sample that was attacked again; null: none was."""
    share: float | None
    """Of the attacked cells, the part that was attacked again."""
    times: int | None
    """Its steps and restarts, as a multiple of the run's."""
    same_code: bool | None
    """The engine that verified is the one that the run was made with; null: it was not asked."""
    environment: dict[str, JsonValue] = {}
    issued: str
    """UTC, ISO 8601."""

    @property
    def ok(self) -> bool:
        """Nothing that was checked is wrong."""
        return all(check.ok for check in self.checks)


def tier(checks: Sequence[Check]) -> Tier:
    """The last stage that was checked and holds, with all before it."""
    reached: Tier = CLAIMED
    for stage in STAGES:
        own = [check for check in checks if check.stage == stage]
        done = stage != "replayed" or any(check.what == DONE for check in own)
        if not own or not done or not all(check.ok for check in own):
            break
        reached = stage
    return reached


def write(certificate: Certificate, root: Path, said: Strict) -> bool:
    """Put a certificate beside what it is about, unless one is there that says more, and nothing was found now.

    Returns:
        Whether it was written.
    """
    tiers = get_args(Tier)
    if certificate.ok and tiers.index(tier_of(root, said)) > tiers.index(certificate.tier):
        return False
    text = json.dumps(certificate.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(root / CERTIFICATE, lambda draft: draft.write_text(text, "utf-8"))
    return True


def tier_of(root: Path, said: Strict) -> Tier:
    """What the certificate beside an entry or a challenge says; where there is none, or it is of other files, that is
    claimed.

    Args:
        said: what lists its files.
    """
    try:
        found = Certificate.model_validate(strict_json(root / CERTIFICATE))
    except (OSError, ValidationError):
        return CLAIMED
    return found.tier if found.entry == identity(said) and found.tier == tier(found.checks) else CLAIMED
