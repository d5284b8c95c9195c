"""A defense that plants wrong answers ends unranked, and the flag says that they were planted."""

from __future__ import annotations

from pathlib import Path

from tests.adversarial.arena import TASK, barring, judged
from tests.adversarial.clamped import CLAMP
from tests.adversarial.planted_answer import PlantedAnswer

CODE = "wrong-target-shown"


def test_planted_wrong_answers_bar_the_ranking_and_raise_no_score(tmp_path: Path) -> None:
    entries = judged([PlantedAnswer(), CLAMP], tmp_path / "run")
    planted, plain = entries["planted-answer"], entries["sae-clamp"]
    assert CODE in barring(planted) and CODE not in barring(plain)
    (flag,) = (flag for flag in planted.flags if flag.code == CODE)
    shown = planted.per_task[TASK].steerability["before_edit"].shown.value
    assert flag.evidence == shown and shown is not None and shown > 0.5
    honest = plain.per_task[TASK].steerability["before_edit"]
    assert honest.shown.value is not None and honest.shown.value < 0.1
