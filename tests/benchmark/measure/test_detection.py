"""A monitor's threshold, its false positives, and what rows say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.zero import Zero
from benchmark.contracts.defense import Edit, Monitor, Where
from benchmark.contracts.example import Example, Split
from benchmark.measure.detection import FALSE_POSITIVES, make_detector
from benchmark.measure.group import Group
from benchmark.model.edits import Passage, passing
from benchmark.model.pack import make_packs
from benchmark.model.passes import FullPass, Writes
from tests.groups import AT, HERE, WIDE, Rows, cell, far, named
from tests.tiny import ToyTask

SPLITS: tuple[Split, ...] = ("fit", "dev", "test")


class Length(Monitor):
    """The norms of the stream at ordinary positions, summed."""

    site = HERE

    def score(self, h: Tensor, where: Where) -> Tensor:
        return h.float().norm(dim=2).masked_fill(where.special, 0.0).sum(1)


class Lopsided(ToyTask):
    """Enough ``fit`` examples for a percentile; every third ``test`` prompt is a long one."""

    sizes: dict[Split, int] = {"fit": 200, "dev": 6, "test": 60}

    def examples(self, split: Split) -> Sequence[Example]:
        made = super().examples(split)
        longer = range(0, len(made) if split == "test" else 0, 3)
        return [replace(e, prompt=e.prompt + 6 * " w9") if i in longer else e for i, e in enumerate(made)]

    def retain(self, split: Split) -> Sequence[Example]:
        return [replace(e, id=f"{e.id}/kept") for e in self.examples(split)[:4]]


@torch.no_grad()
def lengths(group: Group, task: ToyTask, examples: Sequence[Example], edits: dict[int, Edit]) -> Tensor:
    """The score of each prompt by itself, on the live model."""
    found = []
    for example in examples:
        ids = torch.tensor([task.readout.encode(group.subject.tokenizer, example).tokens])
        with passing(group.subject, Passage(edits, observe=frozenset({AT}))) as passage:
            group.subject.model(input_ids=ids)
        found.append(float(passage.seen[AT][0, 1:].norm(dim=1).sum()))
    return torch.tensor(found)


def test_the_threshold_lets_through_what_was_promised_and_false_positives_are_of_test(group: Group) -> None:
    task, fitted = Lopsided(), replace(group.fitted, monitor=Length())
    detector = make_detector(group.subject, task, fitted)
    assert detector is not None
    fit, test = (
        lengths(group, task, [*task.examples(split), *task.retain(split)], dict(group.edits)) for split in SPLITS[::2]
    )
    undefended = lengths(group, task, task.examples("fit"), {})
    near = 1e-4 * detector.threshold
    assert float((fit - detector.threshold).abs().min()) < near, "it is the score of an example"
    share = float((fit > detector.threshold + near).float().mean())
    assert 0.5 * FALSE_POSITIVES < share <= FALSE_POSITIVES
    assert detector.false_positives == pytest.approx(float((test > detector.threshold + near).float().mean()), abs=1e-6)
    assert 0.3 < detector.false_positives < 0.4, "another share than on fit: the long prompts"
    assert abs(float(undefended.quantile(0.99)) - detector.threshold) > near, "the defended stream is looked at"


def test_no_monitor_no_detector_and_no_columns(group: Group, searched: tuple[Rows, Any]) -> None:
    assert make_detector(group.subject, group.task, group.fitted) is None
    assert not any({"monitor_score", "detected"} & row.keys() for row in searched[0])


@pytest.mark.parametrize("after", [True, False])
def test_a_displaced_stream_is_flagged_and_no_other(group: Group, after: bool) -> None:
    detector = make_detector(group.subject, group.task, replace(group.fitted, monitor=Length()))
    assert detector is not None
    pack = max(make_packs(group.subject, group.task, group.examples, 99), key=len)
    run = FullPass(group.subject, pack, group.edits, Writes((AT,), pack.readout, 1, after))
    rows = torch.arange(len(pack))
    quiet = detector.scores(run, None, rows)
    calm = quiet <= detector.threshold
    delta = far(len(pack), 20 * detector.threshold)
    delta[::2] = 0
    seen = detector.scores(run, delta, rows)
    torch.testing.assert_close(seen[::2], quiet[::2])
    assert (seen[1::2] > detector.threshold).all() and calm[::2].any() and calm[1::2].any()


def test_rows_say_what_the_monitor_saw_of_their_own_perturbation(group: Group) -> None:
    watched = replace(group, detector=make_detector(group.subject, group.task, replace(group.fitted, monitor=Length())))
    assert watched.detector is not None
    still, loud = cell(watched, Zero())[0], cell(watched, WIDE, (0.01, 30.0))[0]
    examples = [named(group, row) for row in still[::3]]
    quiet = lengths(group, ToyTask(), examples, dict(group.edits)).repeat_interleave(3)
    assert [row["monitor_score"] for row in still] == pytest.approx(quiet.tolist(), rel=1e-4)
    assert all(row["detected"] for row in loud[1::2]) and not all(row["detected"] for row in still)
    for row in [*still, *loud]:
        assert row["detected"] is (row["monitor_score"] > watched.detector.threshold)
