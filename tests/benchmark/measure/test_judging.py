"""Which examples count, what is kept of a retain set, and what its answers cost in nats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Edit, Where
from benchmark.contracts.example import Example
from benchmark.measure.judging import Judged, Retention, eligible, judge
from benchmark.model.edits import edited
from benchmark.model.subject import Subject
from benchmark.readouts.answers import own_answers
from benchmark.readouts.continuation import Continuation
from benchmark.sites import Site
from tests import tiny
from tests.tiny import ToyChat, ToyTask

HERE = Site(2)


def turned(h: Tensor, where: Where) -> Tensor:
    """Spares BOS, changes everything else."""
    return torch.where(where.special[..., None], h, h.flip(-1))


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny.subject()


@torch.no_grad()
def log_probs(subject: Subject, tokens: list[int], edits: Mapping[Site, Edit]) -> Tensor:
    """(position, vocabulary) of one text, on the live model."""
    with edited(subject, edits) as model:
        return model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)


@pytest.mark.parametrize("edits", [{}, {HERE: turned}])
def test_the_loss_of_a_choice_is_its_cross_entropy_among_the_choices(subject: Subject, edits: dict[Site, Edit]) -> None:
    task = ToyTask()
    retain = Retention(subject, task, task.retain("test"))
    costs = []
    for example in retain.examples:
        encoded = task.readout.encode(subject.tokenizer, example)
        read = log_probs(subject, list(encoded.tokens), edits)[encoded.readout][[c for (c,) in encoded.choices]]
        costs.append(-read.log_softmax(0)[example.answer])
    found = retain.loss(edits)
    assert found is not None and found > 0
    assert found == pytest.approx(float(torch.stack(costs).mean()), rel=1e-4)
    assert found == pytest.approx(retain.loss(edits, retain.judged(edits)), rel=1e-6)
    assert edits or retain.base_loss == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("edits", [{}, {HERE: turned}])
def test_the_loss_of_a_text_is_that_of_the_undefended_models_own_answer(
    subject: Subject, edits: dict[Site, Edit]
) -> None:
    task = ToyChat()
    readout = task.readout
    assert isinstance(readout, Continuation)
    retain = Retention(subject, task, task.retain("test"))
    costs = []
    for example, answer in zip(
        retain.examples, own_answers(subject, task, retain.examples, readout.tokens), strict=True
    ):
        prompt, forced = list(readout.encode(None, example).tokens), list(answer.tokens[: readout.forced])
        read = log_probs(subject, prompt + forced, edits)[len(prompt) - 1 : -1]
        costs.append(-read.gather(1, torch.tensor(forced)[:, None]).mean())
    found = retain.loss(edits)
    assert found is not None and found > 0
    assert found == pytest.approx(float(torch.stack(costs).mean()), rel=1e-3)
    assert found == retain.loss(edits, retain.judged(edits))  # what was written freely is not what is forced


def test_only_what_the_undefended_model_gets_right_can_be_lost(subject: Subject) -> None:
    task = ToyTask()
    retain = Retention(subject, task, task.examples("test"))
    right: list[Any] = retain.right.tolist()
    assert 0 < sum(right) < len(right) and retain.share(retain.base) == 1.0
    best, worst = torch.tensor([9.0, 0.0, 0.0]), torch.tensor([0.0, 9.0, 0.0])
    only = retain.base._replace(read=[best if r else worst for r in right])
    others = retain.base._replace(read=[worst if r else best for r in right])
    assert (retain.share(only), retain.share(others)) == (1.0, 0.0)
    one = right.index(True)
    lost = only._replace(read=[worst if i == one else read for i, read in enumerate(only.read)])
    assert retain.share(lost) == pytest.approx(1 - 1 / sum(right))


def test_nothing_to_keep_is_no_share_and_no_loss(subject: Subject) -> None:
    nothing = Retention(subject, ToyTask(), [])
    assert nothing.kept({}) is None and nothing.base_loss is None


class Demanding(ToyTask):
    """An example counts only if the model shows its neighbour, too."""

    def prerequisites(self, example: Example) -> Sequence[Example]:
        every = self.examples("test")
        return [every[(every.index(example) + 1) % len(every)]]


def test_an_example_counts_only_with_its_prerequisites(subject: Subject) -> None:
    examples = ToyTask().examples("test")
    base = judge(subject, ToyTask(), examples, {})
    assert torch.equal(eligible(subject, ToyTask(), examples, base), base.shown)
    strict = eligible(subject, Demanding(), examples, base)
    assert torch.equal(strict, base.shown & base.shown.roll(-1)) and 0 < strict.sum() < base.shown.sum()


def test_below_the_floor_an_example_is_degenerate_whatever_its_margin() -> None:
    subject, task = tiny.subject(), ToyTask()
    examples = task.examples("test")
    plain = judge(subject, task, examples, {})
    assert plain.log_mass is not None and plain.shown.any() and plain.broken is None
    floor = math.exp(float(plain.log_mass[plain.shown].median()))
    found = judge(subject, task, examples, {}, floor=floor)
    below = plain.log_mass < math.log(floor)
    assert (below & plain.shown).any() and (found.shown == (plain.shown & ~below)).all()
    assert [label == "degenerate" for label in found.labels] == below.tolist()


def test_the_mass_is_the_models_own_probability_of_the_choices() -> None:
    subject, task = tiny.subject(), ToyTask()
    example = task.examples("test")[0]
    ids = subject.tokenizer([example.prompt], return_tensors="pt")["input_ids"]
    choices = [subject.tokenizer(choice, add_special_tokens=False)["input_ids"][0] for choice in example.choices]
    expected = float(subject.model(ids).logits[0, -1].softmax(-1)[choices].sum())
    log_mass = judge(subject, task, [example], {}).log_mass
    assert log_mass is not None and math.exp(float(log_mass)) == pytest.approx(expected, rel=1e-4)


def test_a_part_of_a_judgement_has_the_same_examples_in_every_field() -> None:
    numbers = torch.arange(3.0)
    whole = Judged(["a", "b", "c"], numbers, ["r", "s", "t"], numbers + 10, numbers > 1, numbers + 20)
    part = whole.part([2, 0])
    plain = [x.tolist() if isinstance(x, torch.Tensor) else x for x in part]
    assert plain == [["c", "a"], [2.0, 0.0], ["t", "r"], [12.0, 10.0], [True, False], [22.0, 20.0]]
    assert whole._replace(log_mass=None, broken=None, loss=None).part([1])[3:] == (None, None, None)
