"""Every defense acts exactly where its schedule says, also while text is generated under a key/value cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.contracts.defense import Where
from benchmark.errors import UsageError
from benchmark.model.edits import is_position_wise
from defenses.always_refuse import AlwaysRefuse
from defenses.direction_ablation import DirectionAblation
from defenses.leace import Leace
from defenses.mean_ablation import MeanAblation
from defenses.prompt_destroyer import PromptDestroyer
from defenses.sae_bottleneck import SaeBottleneck
from defenses.schedule import Schedule, Scheduled
from tests import tiny
from tests.defenses.world import CLAMP, HERE, RULE, fit, moved_in_generation, place, stream, world

DEFENSES: dict[str, Any] = {
    "always-refuse": AlwaysRefuse(schedule="generated"),
    "direction-ablation": DirectionAblation(schedule="generated"),
    "leace": Leace(schedule="generated"),
    "mean-ablation": MeanAblation(rule=RULE, schedule="generated"),
    "prompt-destroyer": PromptDestroyer(schedule="generated"),
    "sae-bottleneck": SaeBottleneck(replace(CLAMP, schedule="generated")),
    "plain bottleneck": SaeBottleneck(replace(CLAMP, schedule="generated"), clamped=False),
    "sae-clamp": replace(CLAMP, mode="set", schedule="generated"),
}
ACTS = {
    "always": range(11),
    "prompt": range(5),
    "generated": range(5, 11),
    "every:1": range(11),
    "every:3": range(0, 11, 3),
}
"""Positions, of 5 of prompt and 6 that are generated."""


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_hands_its_schedule_on_and_promises_what_it_keeps(name: str, tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    (site, edit), *_ = fit(DEFENSES[name], subject).edits.items()
    assert is_position_wise(edit)
    assert moved_in_generation(subject, site, edit) == list(ACTS["generated"])


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_in_generation_an_edit_acts_where_its_schedule_says_and_spares_the_bos(family: str) -> None:
    subject = tiny.bare(family)
    for schedule, acts in ACTS.items():
        edit = Scheduled(torch.neg, Schedule.parse(schedule))
        assert moved_in_generation(subject, HERE, edit) == [position for position in acts if position], schedule


@pytest.mark.parametrize("schedule", ACTS)
def test_a_schedule_says_where_an_edit_acts(schedule: str) -> None:
    h = stream(length=11)
    plain = place(h)
    where = Where(plain.index, plain.special, (plain.index >= 5).expand_as(plain.special))
    found = Scheduled(torch.neg, Schedule.parse(schedule), "all")(h, where)
    on = torch.tensor([position in ACTS[schedule] for position in range(11)])
    assert torch.equal(found[:, on], -h[:, on]) and torch.equal(found[:, ~on], h[:, ~on])


@pytest.mark.parametrize("text", ["", "never", "every", "every:", "every:0", "every:-2", "every:x", "prompt:2"])
def test_a_schedule_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="always, prompt, generated and every"):
        Schedule.parse(text)


def test_a_change_is_computed_in_single_precision_and_keeps_the_streams_dtype() -> None:
    seen = []
    edit = Scheduled(lambda h: seen.append(h.dtype) or 2 * h)
    h = stream()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        out = edit(h.to(dtype), place(h))
        assert out.dtype == dtype and torch.equal(out[:, 1:], (2 * h.to(dtype).float()).to(dtype)[:, 1:])
    assert set(seen) == {torch.float32}
