"""Generation meets edits and writes in absolute positions, and reads like the pass that is made to read the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Where
from benchmark.contracts.example import Example
from benchmark.contracts.readout import Encoded, Member
from benchmark.model.edits import Passage, passing
from benchmark.model.generation import generate
from benchmark.model.pack import build
from benchmark.model.passes import FullPass, TailPass, Writes
from benchmark.model.subject import Subject
from benchmark.readouts.continuation import Continuation, Forced, ForcedReader
from tests.tiny import ToyChat, subject

FAMILIES = ("gpt2", "llama", "gemma2")
LENGTH, FORCED, LAYER = 7, 5, 2


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest) -> Subject:
    found = subject(request.param)
    found.tokenizer.eos_token_id = None
    found.tokenizer.decode = lambda tokens, **_: " ".join(map(str, tokens))
    found.model.generation_config.eos_token_id = None
    return found


def prompts(rows: int = 3) -> Tensor:
    return torch.randint(5, 50, (rows, LENGTH), generator=torch.Generator().manual_seed(0))


def written(made: Subject, ids: Tensor, passage: Passage) -> Tensor:
    return torch.tensor([text.tokens for text in generate(made, ids, passage, FORCED)])


def by_full_passes(made: Subject, ids: Tensor, passage: Passage) -> Tensor:
    """The same by running everything again for every token, without a cache."""
    with torch.no_grad(), passing(made, passage, generated_from=LENGTH):
        for _ in range(FORCED):
            best = made.model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, best], 1)
    return ids[:, LENGTH:]


@dataclass(frozen=True)
class Push:
    """Adds a direction at generated positions only."""

    size: float
    position_wise: ClassVar[bool] = True

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        push = torch.linspace(-1, 1, h.shape[-1]).cos() * self.size
        return h + where.generated[..., None] * push


def write(size: float, start: int, width: int) -> Passage:
    delta = size * torch.randn(3, width, 32, generator=torch.Generator().manual_seed(1))
    return Passage({}, {LAYER: delta}, start)


@pytest.mark.parametrize(
    "passage", [Passage({}), Passage({LAYER: Push(4.0)}), write(6.0, LENGTH - 2, 2), write(6.0, LENGTH, 3)]
)
def test_the_cache_changes_nothing(made: Subject, passage: Passage) -> None:
    assert torch.equal(written(made, prompts(), passage), by_full_passes(made, prompts(), passage))


@pytest.mark.parametrize("position", [LENGTH, LENGTH + 1, LENGTH + 2])
def test_a_delta_at_a_generated_position_changes_that_step_and_none_before(made: Subject, position: int) -> None:
    plain = written(made, prompts(), Passage({}))
    moved = written(made, prompts(), write(50.0, position, 1))
    step = position - LENGTH + 1  # the token that is predicted from that position
    assert torch.equal(moved[:, :step], plain[:, :step])
    assert (moved[:, step] != plain[:, step]).any()
    beyond = written(made, prompts(), write(50.0, LENGTH + FORCED + 1, 1))
    assert torch.equal(beyond, plain), "nothing is read there"


def test_an_edit_of_generated_positions_leaves_the_first_answer_token_alone(made: Subject) -> None:
    plain, pushed = (written(made, prompts(), p) for p in (Passage({}), Passage({LAYER: Push(50.0)})))
    assert torch.equal(plain[:, 0], pushed[:, 0]) and (plain[:, 1:] != pushed[:, 1:]).any()


def forced_pack(made: Subject, answers: Tensor) -> Any:
    members = [
        Member(Example(str(i), str(i), ""), Encoded(tuple(row), LENGTH - 1, (), LENGTH), tuple(answer))
        for i, (row, answer) in enumerate(zip(prompts().tolist(), answers.tolist(), strict=True))
    ]
    return build(made, members, ForcedReader(answers, (6,)))


@pytest.mark.parametrize("start", [LENGTH - 1, LENGTH + 1])
def test_forced_reading_leads_exactly_where_greedy_decoding_writes_it(made: Subject, start: int) -> None:
    edits, writes, rows = {LAYER: Push(2.0)}, Writes((1,), start, 1, after=False), torch.arange(3)
    delta = torch.randn(3, 1, 1, 32, generator=torch.Generator().manual_seed(2))
    answers = torch.tensor(
        [
            t.tokens
            for t in FullPass(made, forced_pack(made, prompts()[:, :FORCED]), edits, writes).write(delta, rows, FORCED)
        ]
    )
    own: Forced = FullPass(made, forced_pack(made, answers), edits, writes)(delta, rows).read
    assert (own.lead > 0).all() and torch.allclose(own.log_prob.exp().clamp(max=1), own.log_prob.exp())
    other: Forced = FullPass(made, forced_pack(made, answers ^ 1), edits, writes)(delta, rows).read
    assert not (other.lead > 0).all(1).any()
    silent: Forced = FullPass(made, forced_pack(made, answers), {}, writes)(delta, rows).read
    assert not torch.allclose(silent.log_prob, own.log_prob), "the edit is live while the answer is read"


@pytest.mark.parametrize("start", [LENGTH - 1, LENGTH + 1])
def test_the_restarted_pass_reads_an_answer_like_the_full_one(made: Subject, start: int) -> None:
    pack, edits, writes = (
        forced_pack(made, prompts()[:, :FORCED]),
        {LAYER: Push(2.0)},
        Writes((1,), start, 2, after=False),
    )
    delta = torch.randn(3, 1, 2, 32, requires_grad=True)
    reads = [flat(kind(made, pack, edits, writes)(delta, torch.arange(3)).read) for kind in (FullPass, TailPass)]
    slopes = [torch.autograd.grad(read.square().sum(), delta)[0] for read in reads]
    assert torch.allclose(*reads, rtol=1e-4, atol=1e-4) and torch.allclose(*slopes, rtol=1e-3, atol=1e-3)


def test_openers_are_read_at_the_first_token(made: Subject) -> None:
    pack = forced_pack(made, prompts()[:, :FORCED])
    read = FullPass(made, pack, {}, Writes((), 0, 0, after=False))(None, torch.arange(3)).read
    with torch.no_grad():
        logits = made.model(input_ids=prompts()).logits[:, -1].log_softmax(-1)
    assert torch.allclose(read.opener, logits[:, 6], atol=1e-4)


def test_references_are_the_undefended_models_own_answers_and_wrong_ones_are_not(made: Subject) -> None:
    from benchmark.cells.reference import judge
    from benchmark.model.answers import own_answers, references
    from benchmark.model.packs import make_packs

    task, readout = ToyChat(), Continuation(tokens=6, forced=4)
    examples = task.examples("test")
    own = own_answers(made, task, examples, readout)
    assert judge(made, task, examples, {}).shown.all()
    wrong = references(made, task, examples, readout, "wrong")
    fit = {t.text for t in own_answers(made, task, task.examples("fit"), readout)}
    assert all(w.text in fit for w in wrong)
    assert all(w.tokens[:4] != o.tokens[:4] for w, o in zip(wrong, own, strict=True)) or len(fit) == 1
    packs = make_packs(made, task, examples, 3)
    again = {e.id: r for p in packs for e, r in zip(p.examples, p.reference, strict=True)}
    assert again == {e.id: t.text for e, t in zip(examples, own, strict=True)}
