"""Selection climbs on what the task climbs on, and what is amplified is chosen with the opposite sign."""

from __future__ import annotations

import math

import pytest
import torch

from benchmark.choices import choice_margin
from benchmark.contracts import Batch, Continuation, Probe, TokenLogits
from benchmark.errors import UsageError
from defenses.calibration import Outcome, smallest
from defenses.latents import Rule
from defenses.selection import Activity, opposed, retain_objective
from tests.tiny import SITE, ToyTask


def made(effect: list[float]) -> Activity:
    return Activity(torch.tensor(effect), torch.ones(len(effect)), torch.ones(len(effect)))


def test_amplification_wants_latents_against_the_objective_that_the_retain_set_does_not_mind() -> None:
    task, rest = made([-3.0, -2.0, -1.0, 4.0]), made([-2.0, 5.0, 0.0, 0.0])
    score = Rule(contrast=2.0, rate_ratio=0.0).score(opposed(task), opposed(rest))
    assert score.tolist() == [-1.0, 2.0, 1.0, -4.0]  # the first hurts the retain set as it grows, the second helps it


@pytest.mark.parametrize(
    ("readout", "own"), [(TokenLogits(), False), (Probe(SITE, ("a", "b")), False), (Continuation(), True)]
)
def test_retain_examples_are_read_as_the_task_is(readout: object, own: bool) -> None:
    class Read(ToyTask):
        def objective(self, read: torch.Tensor, batch: Batch) -> torch.Tensor:
            return read.sum(1)

    task = Read()
    task.readout = readout  # type: ignore[misc]
    read, answer = torch.tensor([[3.0, 1.0, 0.5]]), torch.tensor([1])
    batch = Batch(answer, answer, torch.tensor([math.inf]))
    expected = read.sum(1) if own else choice_margin(read, answer)
    assert torch.equal(retain_objective(task)(read, batch), expected)


def test_a_rule_that_selects_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Rule(count=0)


class Scripted:
    """A trial whose outcomes are given."""

    def __init__(self, outcomes: dict[float, tuple[float | None, float | None]], shown: bool = True) -> None:
        self.outcomes, self.asked = outcomes, []
        self.shown, self.task, self.subject = torch.tensor([shown]), ToyTask(), ToyTask()

    def __call__(self, edits: float) -> Outcome:
        self.asked.append(edits)
        return Outcome(*self.outcomes[edits])


def settle(outcomes: dict[float, tuple[float | None, float | None]], shown: bool = True) -> tuple[float, list[float]]:
    trial = Scripted(outcomes, shown)
    return smallest(trial, lambda s: s, sorted(outcomes), 0.6, 0.99)[0], trial.asked  # type: ignore[arg-type, return-value]


def test_the_smallest_strength_that_does_both_is_taken() -> None:
    assert settle({1: (0.1, 1.0), 2: (0.7, 1.0), 3: (0.9, 1.0)}) == (2, [1, 2])
    assert settle({1: (0.1, None), 2: (0.7, None)}) == (2, [1, 2])


def test_out_of_reach_the_best_that_keeps_the_retain_set_is_taken() -> None:
    assert settle({1: (0.1, 1.0), 2: (0.4, 0.99), 3: (0.7, 0.95)}) == (2, [1, 2, 3])


def test_strengths_behind_a_hopeless_one_are_not_tried() -> None:
    assert settle({1: (0.1, 1.0), 2: (0.4, 0.5), 3: (0.7, 1.0)}) == (1, [1, 2])


def test_nothing_to_calibrate_on_is_an_error() -> None:
    with pytest.raises(UsageError, match="no strength down to 1 keeps 99%"):
        settle({1: (0.1, 0.5)})
    with pytest.raises(UsageError, match="on no `fit` example"):
        settle({1: (None, 1.0)}, shown=False)
