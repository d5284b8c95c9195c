"""What a defense sees while it learns: the ``fit`` split, what is measured on it, and what an attacker would get."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.contracts.defense import Edits, Outcome, Where
from benchmark.contracts.readout import Criteria, Judging
from benchmark.errors import UsageError
from benchmark.model.pack import make_packs
from benchmark.model.streams import stream_gradients
from benchmark.readouts.choices import Choices
from benchmark.run.fitting import Fit
from tests import tiny
from tests.defenses.world import HERE, Lopsided, Never, seen, world

Outcomes = dict[float, tuple[float | None, float | None]]


@pytest.mark.parametrize("split", ["dev", "test"])
def test_no_other_split_can_be_reached(split: Any) -> None:
    fitting = seen(tiny.subject())
    assert fitting.task.examples("fit") == fitting.examples
    for ask in (fitting.task.examples, fitting.task.retain):
        with pytest.raises(UsageError, match=f"the split fit alone; take (that one|those), it asked for '{split}'"):
            ask(split)


def test_what_is_made_once_is_shared_until_other_examples_are_dealt() -> None:
    fitting, made = seen(tiny.subject()), iter(range(9))
    assert [fitting.once(key, lambda: next(made)) for key in ("a", "a", "b")] == [0, 0, 1]
    other = fitting.dealt(fitting.retain, fitting.examples)
    assert (other.examples, other.retain) == (fitting.retain, fitting.examples)
    assert other.once("a", lambda: next(made)) == 2


class Scripted(Fit):
    """Strengths, in the place of edits, with given outcomes."""

    outcomes: Outcomes
    asked: list[float]

    def outcome(self, edits: Any) -> Outcome:
        self.asked.append(edits)
        return Outcome(*self.outcomes[edits], shown=10, right=10)


def calibrated(outcomes: Outcomes, task: tiny.ToyTask | None = None) -> tuple[float, list[float]]:
    made = Scripted(tiny.subject(), tiny.viewed(task), HERE)
    made.outcomes, made.asked = outcomes, []
    build: Any = lambda strength: strength  # noqa: E731
    return made.calibrate(build, sorted(outcomes), target_share=0.6, retain_share=0.99)[0], made.asked


@pytest.mark.parametrize(
    ("outcomes", "taken", "asked"),
    [
        ({1: (0.1, 1.0), 2: (0.7, 1.0), 3: (0.9, 1.0)}, 2, [1, 2]),
        ({1: (0.1, None), 2: (0.7, None)}, 2, [1, 2]),
        ({1: (0.1, 1.0), 2: (0.4, 0.99), 3: (0.7, 0.95)}, 2, [1, 2, 3]),
        ({1: (0.1, 1.0), 2: (0.4, 0.5), 3: (0.7, 1.0)}, 1, [1, 2]),
    ],
    ids=[
        "the smallest that does both",
        "no retain set",
        "out of reach: the best that keeps it",
        "behind a hopeless one",
    ],
)
def test_calibration_takes_a_strength(outcomes: Outcomes, taken: float, asked: list[float]) -> None:
    assert calibrated(outcomes) == (taken, asked)


def test_nothing_to_calibrate_on_is_an_error() -> None:
    with pytest.raises(UsageError, match="no strength down to 1 keeps 99%"):
        calibrated({1: (0.1, 0.5)})
    with pytest.raises(UsageError, match="on no `fit` example"):
        calibrated({1: (None, 1.0)}, Never())


class Sum(Choices):
    """Climbs on the sum of all choices, which is no margin."""

    def objective(self, verdict: Judging, read: Tensor, criteria: Criteria) -> Tensor:
        return read.sum(1)


class Deaf(Choices):
    """Climbs on nothing that depends on the stream."""

    def objective(self, verdict: Judging, read: Tensor, criteria: Criteria) -> Tensor:
        return read.detach().sum(1)


class Climbing(Lopsided):
    """The toy task with another objective."""

    def __init__(self, readout: Choices) -> None:
        self.readout = readout


def test_gradients_are_of_the_objective_and_on_the_retain_set_of_what_must_not_be_lost(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0], Climbing(Sum()))
    subject, task = fitting.subject, fitting.task
    objectives = [partial(f, task.verdict) for f in (task.readout.objective, task.readout.retain_objective)]
    for some, own, other in ((fitting.examples, *objectives), (fitting.retain, *reversed(objectives))):
        (found,) = next(fitting.gradients([HERE], some))
        pack = make_packs(subject, task, some, 32)[0]
        expected, wrong = (stream_gradients(subject, pack, (HERE.boundary,), f)[0].gradient for f in (own, other))
        assert torch.equal(found.gradient, expected) and not torch.allclose(found.gradient, wrong)


def test_a_site_behind_what_is_read_is_refused() -> None:
    assert next(seen(tiny.subject(), Climbing(Sum())).gradients([HERE]))
    with pytest.raises(UsageError, match="name an earlier site"):
        next(seen(tiny.subject(), Climbing(Deaf())).gradients([HERE]))


class Shift(nn.Module):
    """A learned vector at every ordinary position."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(tiny.D_MODEL))

    def forward(self, h: Tensor, where: Where) -> Tensor:
        return h + self.vector * ~where.special[..., None]


def test_recovery_is_what_an_attacker_gets_and_has_a_slope_in_the_edits_parameters() -> None:
    fitting, edit = seen(tiny.subject()), Shift()
    edits: Edits = {HERE: edit}
    problems = fitting.recovery(edits, "before_edit", (0.1, 0.5))
    shown = sum(label == "yes" for label in fitting.labels(fitting.examples))
    assert sum(problem.rows for problem in problems) == 2 * shown > 0

    def total() -> Tensor:
        return torch.stack([p.objective(0.1 * p.noise()).sum() for p in problems]).sum()

    for problem in problems:
        torch.testing.assert_close(problem.objective(problem.nothing()), problem.evaluate(problem.nothing()).objective)
    (slope,) = torch.autograd.grad(total(), [edit.vector])
    way, step = torch.randn(tiny.D_MODEL, generator=torch.Generator().manual_seed(0)), 1e-3
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            edit.vector.copy_(sign * step * way)
            values.append(float(total()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(slope @ way), rel=0.05)
    with pytest.raises(UsageError, match="unknown threat model 'before_edti'"):
        fitting.recovery(edits, "before_edti", (0.1,))
