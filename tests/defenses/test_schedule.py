"""Every defense acts exactly where its schedule says, also while text is generated under a key/value cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.model.edits import is_position_wise
from defenses.always_refuse import AlwaysRefuse
from defenses.direction_ablation import DirectionAblation
from defenses.leace import Leace
from defenses.mean_ablation import MeanAblation
from defenses.prompt_destroyer import PromptDestroyer
from defenses.sae_bottleneck import SaeBottleneck
from defenses.schedule import Schedule, Scheduled
from tests.defenses.world import CLAMP, RULE, moved_in_generation, place, stream, world
from tests.tiny import ToyTask

DEFENSES: dict[str, Any] = {
    "always-refuse": lambda schedule: AlwaysRefuse(schedule=schedule),
    "direction-ablation": lambda schedule: DirectionAblation(schedule=schedule),
    "leace": lambda schedule: Leace(schedule=schedule),
    "mean-ablation": lambda schedule: MeanAblation(rule=RULE, schedule=schedule),
    "prompt-destroyer": lambda schedule: PromptDestroyer(schedule=schedule),
    "sae-bottleneck": lambda schedule: SaeBottleneck(replace(CLAMP, schedule=schedule)),
    "plain bottleneck": lambda schedule: SaeBottleneck(replace(CLAMP, schedule=schedule), clamped=False),
    "sae-clamp": lambda schedule: replace(CLAMP, mode="set", schedule=schedule),
}
ACTS = {"always": range(1, 11), "prompt": range(1, 5), "generated": range(5, 11), "every:3": range(3, 11, 3)}


@pytest.mark.parametrize("schedule", ACTS)
@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_acts_at_the_positions_of_its_schedule_and_nowhere_else(
    name: str, schedule: str, tmp_path: Path
) -> None:
    subject, _ = world(tmp_path)
    fitted = DEFENSES[name](schedule).fit(subject, ToyTask(), ToyTask().examples("fit"))
    (site, edit), *_ = fitted.edits.items()
    assert is_position_wise(edit)
    assert moved_in_generation(subject, site, edit) == list(ACTS[schedule])


def test_a_change_is_computed_in_single_precision_and_keeps_the_streams_dtype() -> None:
    seen = []
    edit = Scheduled(lambda h: seen.append(h.dtype) or 2 * h)
    h = stream()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        out = edit(h.to(dtype), place(h))
        assert out.dtype == dtype and torch.equal(out[:, 1:], (2 * h.to(dtype).float()).to(dtype)[:, 1:])
    assert set(seen) == {torch.float32}


def test_special_positions_are_spared_unless_all_are_asked_for() -> None:
    h = stream()
    where = place(h)
    assert torch.equal(Scheduled(torch.neg)(h, where)[:, 0], h[:, 0])
    assert torch.equal(Scheduled(torch.neg, Schedule(), "all")(h, where), -h)
