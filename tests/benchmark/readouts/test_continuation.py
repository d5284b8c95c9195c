"""Continuations: a forced answer is read as it is written, and references are the model's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmark.contracts.example import Example, Split
from benchmark.contracts.readout import Encoded, Member
from benchmark.measure.judging import judge
from benchmark.model.pack import Pack, build, make_packs
from benchmark.model.passes import FullPass, Writes
from benchmark.model.subject import Subject
from benchmark.model.tail import TailPass
from benchmark.readouts.answers import other_answers, own_answers, references
from benchmark.readouts.continuation import Continuation, Forced, ForcedReader
from tests.benchmark.model.writer import FAMILIES, LAYER, LENGTH, NEW, Push, prompts, writer
from tests.tiny import ToyChat


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest) -> Subject:
    return writer(request.param)


def forced(made: Subject, answers: Tensor) -> Pack:
    members = [
        Member(Example(str(i), str(i), ""), Encoded(tuple(row), LENGTH - 1, (), LENGTH), (tuple(answer),))
        for i, (row, answer) in enumerate(zip(prompts().tolist(), answers.tolist(), strict=True))
    ]
    return build(made, members, ForcedReader(answers, (6,)))


@pytest.mark.parametrize("start", [LENGTH - 1, LENGTH + 1])
def test_forced_reading_leads_exactly_where_greedy_decoding_writes_it(made: Subject, start: int) -> None:
    edits, writes, rows = {LAYER: Push(2.0)}, Writes((1,), start, 1, after=False), torch.arange(3)
    delta = torch.randn(3, 1, 1, 32, generator=torch.Generator().manual_seed(2))
    texts = FullPass(made, forced(made, prompts()[:, :NEW]), edits, writes).write(delta, rows, NEW)
    answers = torch.tensor([text.tokens for text in texts])
    own: Forced = FullPass(made, forced(made, answers), edits, writes)(delta, rows).read
    assert (own.lead > 0).all() and torch.allclose(own.log_prob.exp().clamp(max=1), own.log_prob.exp())
    other: Forced = FullPass(made, forced(made, answers ^ 1), edits, writes)(delta, rows).read
    assert not (other.lead > 0).all(1).any()
    for asked, begins in ((answers, True), (answers[:, :2], True), (answers ^ 1, False)):
        assert Continuation().begun(ForcedReader(asked, (6,)), rows, texts) == [begins] * 3
    assert Continuation().begun(ForcedReader(answers[:1], (6,)), rows * 0, texts) == [True, False, False]
    silent: Forced = FullPass(made, forced(made, answers), {}, writes)(delta, rows).read
    assert not torch.allclose(silent.log_prob, own.log_prob), "the edit is live while the answer is read"


@pytest.mark.parametrize("start", [LENGTH - 1, LENGTH + 1])
def test_the_tail_pass_reads_an_answer_like_the_full_one(made: Subject, start: int) -> None:
    pack, edits = forced(made, prompts()[:, :NEW]), {LAYER: Push(2.0)}
    writes = Writes((1,), start, 2, after=False)
    delta = torch.randn(3, 1, 2, 32, requires_grad=True)
    runs = [kind(made, pack, edits, writes) for kind in (FullPass, TailPass)]
    reads = [Continuation().flat(run(delta, torch.arange(3)).read) for run in runs]
    slopes = [torch.autograd.grad(read.square().sum(), delta)[0] for read in reads]
    assert torch.allclose(*reads, rtol=1e-4, atol=1e-4) and torch.allclose(*slopes, rtol=1e-3, atol=1e-3)


def test_openers_are_read_at_the_first_token(made: Subject) -> None:
    pack = forced(made, prompts()[:, :NEW])
    read = FullPass(made, pack, {}, Writes((), 0, 0, after=False))(None, torch.arange(3)).read
    with torch.no_grad():
        logits = made.model(input_ids=prompts()).logits[:, -1].log_softmax(-1)
    assert torch.allclose(read.opener, logits[:, 6], atol=1e-4)


def test_references_are_the_undefended_models_own_answers_and_wrong_ones_are_not(made: Subject) -> None:
    task = ToyChat()
    examples = task.examples("test")
    own = own_answers(made, task, examples, 6)
    assert judge(made, task, examples, {}).shown.all()
    wrong = references(made, task, examples, 6, 4, "wrong")
    fit = {t.text for t in own_answers(made, task, task.examples("fit"), 6)}
    assert all(w.text in fit for w in wrong)
    assert all(w.tokens[:4] != o.tokens[:4] for w, o in zip(wrong, own, strict=True)) or len(fit) == 1
    packs = make_packs(made, task, examples, 3)
    again = {e.id: r for p in packs for e, r in zip(p.examples, p.reference, strict=True)}
    assert again == {e.id: t.text for e, t in zip(examples, own, strict=True)}


class OtherData(ToyChat):
    """A task of the same name and ids, with other prompts."""

    def examples(self, split: Split) -> Sequence[Example]:
        return [replace(e, prompt=str(int(e.prompt) + 8)) for e in super().examples(split)]


def test_two_tasks_of_one_name_have_their_own_references() -> None:
    """In one process, and those of the first are still known."""
    made = writer("llama")
    first, second = ToyChat(), OtherData()
    alone = [own_answers(writer("llama"), task, task.examples("test"), 6) for task in (first, second)]
    together = [own_answers(made, task, task.examples("test"), 6) for task in (first, second, first)]
    assert together == [*alone, alone[0]] and alone[0] != alone[1]
    assert other_answers(made, first, 6) != other_answers(made, second, 6)
