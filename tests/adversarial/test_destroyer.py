"""A defense that destroys what looks attacked recovers nothing, holds nothing, and ends unranked for it."""

from __future__ import annotations

from pathlib import Path

from tests.adversarial.arena import TASK, barring, judged
from tests.adversarial.clamped import CLAMP
from tests.adversarial.destroyer import Destroyer

CODE = "degenerate"


def test_destruction_is_no_recovery_and_bars_the_ranking(tmp_path: Path) -> None:
    entries = judged([Destroyer(), CLAMP], tmp_path / "run")
    destroyed, plain = entries["destroyer"], entries["sae-clamp"]
    assert CODE in barring(destroyed) and CODE not in barring(plain)
    broken, honest = (
        next(cell for cell in one.per_task[TASK].cells if cell.role == "attack" and cell.threat_model == "before_edit")
        for one in (destroyed, plain)
    )
    assert broken.outcomes.degenerate > broken.outcomes.recovered
    assert honest.outcomes.degenerate == 0 < honest.outcomes.recovered
