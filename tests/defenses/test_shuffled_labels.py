"""With its labels shuffled, a direction or an eraser is the same kind of edit and about nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.contracts import Example, FittedDefense, Split, Task
from benchmark.model.subject import Subject
from benchmark.spec import build
from defenses.calibration import Trial
from defenses.direction_ablation import DirectionAblation
from defenses.leace import Leace
from defenses.shuffled_labels import ShuffledLabels
from tests.defenses.world import HERE, place, stream, world
from tests.tiny import ToyTask


class Marked(ToyTask):
    """Every prompt of the retain set ends in the same word: plain to tell from the task's."""

    def retain(self, split: Split) -> Sequence[Example]:
        return [replace(e, id=f"{e.id}/kept", prompt=f"{e.prompt} w9") for e in self.examples(split)[:9]]


@dataclass(frozen=True)
class Recorder(DirectionAblation):
    """Keeps what it was fitted on."""

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        return replace(
            super().fit(subject, task, examples), record={"task": list(examples), "retain": list(task.retain("fit"))}
        )


def test_the_same_prompts_are_dealt_into_sides_of_the_same_size(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    task = Marked()
    examples, retain = list(task.examples("fit")), list(task.retain("fit"))
    dealt: Any = ShuffledLabels(Recorder()).fit(subject, task, examples).record
    assert (len(dealt["task"]), len(dealt["retain"])) == (len(examples), len(retain))
    assert {e.id for e in dealt["task"] + dealt["retain"]} == {e.id for e in examples + retain}
    mixed = sum(e in retain for e in dealt["task"])
    assert 0 < mixed < len(retain) and list(task.retain("fit")) == retain, "the task itself is left as it was"
    other: Any = ShuffledLabels(Recorder(), seed=1).fit(subject, task, examples).record
    assert other["task"] != dealt["task"]


@pytest.mark.parametrize("recipe", [DirectionAblation(), Leace()])
def test_what_told_the_prompts_apart_is_left_in_the_stream(recipe: Any, tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    task = Marked()
    real, control = (d.fit(subject, task, task.examples("fit")) for d in (recipe, recipe.control()))
    h = stream(rows=40)
    for fitted in (real, control):
        moved = (fitted.edits[HERE](h, place(h)) - h)[:, 1:].flatten(0, 1)
        spectrum = torch.linalg.svdvals(moved)
        assert spectrum[1] < 1e-3 * spectrum[0], "both remove one direction"
    ways = [torch.linalg.svd((f.edits[HERE](h, place(h)) - h)[:, 1:].flatten(0, 1))[2][0] for f in (real, control)]
    assert abs(float(ways[0] @ ways[1])) < 0.7
    assert control.record | Trial(subject, task, task.examples("fit"))(control.edits).record == control.record


def test_the_recipe_can_be_either_and_is_told_by_its_settings() -> None:
    assert build(ShuffledLabels, {"recipe": {"source": "blocks.1.hook_resid_post"}}, "spec").recipe == (
        DirectionAblation(source="blocks.1.hook_resid_post")
    )
    assert Leace().control() == ShuffledLabels(Leace()) != ShuffledLabels()
