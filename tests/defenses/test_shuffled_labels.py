"""With its labels shuffled, a direction or an eraser is the same kind of edit and about nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.contracts.example import Example, Split
from defenses.direction_ablation import DirectionAblation
from defenses.leace import Leace
from defenses.shuffled_labels import ShuffledLabels
from tests.defenses.organism import undefended
from tests.defenses.world import HERE, place, seen, stream, world
from tests.tiny import ToyTask


class Marked(ToyTask):
    """Every prompt of the retain set ends in the same word: plain to tell from the task's."""

    def retain(self, split: Split) -> Sequence[Example]:
        return [replace(e, id=f"{e.id}/kept", prompt=f"{e.prompt} w9") for e in self.examples(split)[:9]]


@dataclass(frozen=True)
class Recorder(Defense):
    """Keeps what it was fitted on: any recipe can be dealt other labels."""

    def fit(self, fitting: Fitting) -> FittedDefense:
        return FittedDefense({}, record={"task": list(fitting.examples), "retain": list(fitting.retain)})


def test_the_same_prompts_are_dealt_into_sides_of_the_same_size(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0], Marked())
    examples, retain = list(fitting.examples), list(fitting.retain)
    dealt: Any = ShuffledLabels(Recorder()).fit(fitting).record
    assert (len(dealt["task"]), len(dealt["retain"])) == (len(examples), len(retain))
    assert {e.id for e in dealt["task"] + dealt["retain"]} == {e.id for e in examples + retain}
    mixed = sum(e in retain for e in dealt["task"])
    assert 0 < mixed < len(retain) and list(fitting.retain) == retain, "what was given is left as it was"
    other: Any = ShuffledLabels(Recorder(), seed=1).fit(fitting).record
    assert other["task"] != dealt["task"]


@pytest.mark.parametrize("recipe", [DirectionAblation(), Leace()])
def test_what_told_the_prompts_apart_is_left_in_the_stream(recipe: Any, tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0], Marked())
    real, control = (made.fit(fitting) for made in (recipe, recipe.control()))
    h = stream(rows=40)
    moves = [(fitted.edits[HERE](h, place(h)) - h)[:, 1:].flatten(0, 1) for fitted in (real, control)]
    ways = []
    for moved in moves:
        _, spectrum, across = torch.linalg.svd(moved, full_matrices=False)
        assert spectrum[1] < 1e-3 * spectrum[0], "both remove one direction"
        ways.append(across[0])
    assert abs(float(ways[0] @ ways[1])) < 0.7
    measured = fitting.outcome(control.edits).record
    assert control.record | measured == control.record, "it is judged by the true labels"


def test_retain_examples_may_be_dealt_to_a_task_that_asks_prerequisites_of_its_own() -> None:
    fitting = undefended("unlearning", sample=12, test=4).fitting
    assert fitting.task.prerequisites(fitting.examples[0])
    assert ShuffledLabels(DirectionAblation()).fit(fitting).edits
