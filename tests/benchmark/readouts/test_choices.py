"""Choices of several tokens: read as a plain loop over the texts reads them, searched and judged like those of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.gcg import Gcg
from attacks.minimum_norm import MinimumNorm
from attacks.random_direction import RandomDirection
from attacks.soft_suffix import SoftSuffix
from benchmark.contracts.defense import Edit
from benchmark.contracts.example import Example, Split
from benchmark.errors import UsageError
from benchmark.measure.group import Group
from benchmark.measure.judging import judge, read_pack
from benchmark.measure.self_check import tail_is_exact
from benchmark.model.edits import Passage, is_special, passing
from benchmark.model.pack import Pack, build, make_packs
from benchmark.model.passes import FullPass, Writes
from benchmark.model.streams import readout_streams, token_stream
from benchmark.model.subject import Subject
from benchmark.model.tail import TailPass
from benchmark.readouts.choices import Choices, LineReader, TokenReader
from benchmark.registry import THREATS, threat
from benchmark.search.pack_size import PackSize
from benchmark.sites import Site
from tests import tiny
from tests.groups import AT, SEARCH, Halve, cell, clamped_group, halved_group, named
from tests.tiny import ToyTask

EDITS: Mapping[int, Edit] = {2: Halve()}


class Phrases(ToyTask):
    """The toy prompts with choices of one, two and three tokens; of every third example, of two each."""

    def __init__(self, readout: Choices | None = None) -> None:
        self.readout = readout or Choices()

    def _example(self, split: Split, number: int, generator: torch.Generator) -> Example:
        made = super()._example(split, number, generator)
        own = torch.Generator().manual_seed(number)  # the prompts stay those of the toy task
        words = [f"w{int(i)}" for i in torch.randint(3, 58, (6,), generator=own)]
        ends = (2, 4) if number % 3 == 0 else (1, 3)
        parts = words[: ends[0]], words[ends[0] : ends[1]], words[ends[1] :]
        return replace(made, choices=tuple(" ".join(part) for part in parts))


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return tiny.subject(request.param)


def plain(
    subject: Subject, task: ToyTask, example: Example, passage: Passage | None = None, tokens: Sequence[int] = ()
) -> Tensor:
    """(choices,): log-probability of each choice behind the prompt (or ``tokens``), a text after the other."""
    encoded = task.readout.encode(subject.tokenizer, example)
    prompt, found = list(tokens or encoded.tokens), []
    for choice in encoded.choices:
        with passing(subject, passage or Passage(EDITS), len(prompt)):
            logits = subject.model(input_ids=torch.tensor([[*prompt, *choice]]), use_cache=False).logits[0]
        said = logits[len(prompt) - 1 : -1].log_softmax(-1).gather(1, torch.tensor(choice)[:, None]).sum()
        mean = isinstance(task.readout, Choices) and task.readout.score == "mean"
        found.append(said / len(choice) if mean else said)
    return torch.stack(found)


def packs(subject: Subject, task: ToyTask, limit: int = 99) -> list[Pack]:
    return make_packs(subject, task, task.examples("test")[:12], limit)


def drawn(rows: int, sites: int, width: int, size: float = 1.0) -> Tensor:
    return size * torch.randn(rows, sites, width, tiny.D_MODEL, generator=torch.Generator().manual_seed(3))


# --- reading


@pytest.mark.parametrize("kind", [FullPass, TailPass])
@pytest.mark.parametrize("score", ["sum", "mean"])
def test_values_and_gradients_are_those_of_a_plain_loop_over_the_texts(
    subject: Subject, score: Any, kind: type[FullPass | TailPass]
) -> None:
    task, lines = Phrases(Choices(score)), set()
    for pack in packs(subject, task):
        writes = Writes((1, 3), pack.readout - 1, 2, after=False)
        ours, theirs = (drawn(len(pack), 2, 2).requires_grad_() for _ in range(2))
        read = kind(subject, pack, EDITS, writes)(ours, pack.everyone).read
        alone = [
            plain(subject, task, e, Passage(EDITS, {1: d[:1], 3: d[1:]}, writes.start))
            for e, d in zip(pack.examples, theirs, strict=True)
        ]
        assert pack.lines == 3 and read.shape == (len(pack), 3)
        torch.testing.assert_close(read, torch.stack(alone), rtol=1e-4, atol=1e-3)
        weights = torch.tensor([1.0, -2.0, 0.5])
        slopes = [torch.autograd.grad((r * weights).sum(), at)[0] for r, at in ((read, ours), (sum(alone), theirs))]
        torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-3)
        assert (slopes[0].flatten(1).norm(dim=1) > 0.01).all()
        assert not torch.allclose(read, read.flip(1), atol=0.1) and not torch.allclose(read, read.flip(0), atol=0.1)
        lines |= {tuple(row) for row in pack.reader.lengths.tolist()}  # type: ignore[attr-defined]
    assert lines == {(1, 2, 3), (2, 2, 2)}, "of one length and of several"


def test_a_mean_is_the_sum_over_the_number_of_tokens(subject: Subject) -> None:
    for pack, other in zip(packs(subject, Phrases()), packs(subject, Phrases(Choices("mean"))), strict=True):
        total, mean = read_pack(subject, pack, EDITS), read_pack(subject, other, EDITS)
        lengths = torch.tensor([[len(c.split()) for c in e.choices] for e in pack.examples])
        torch.testing.assert_close(mean, total / lengths)
        assert not torch.allclose(mean, total)


def test_choices_of_one_token_are_read_as_logits_and_differ_as_their_log_probabilities_do(subject: Subject) -> None:
    task = ToyTask()
    for pack in packs(subject, task):
        assert isinstance(pack.reader, TokenReader) and pack.lines == 1
        read = read_pack(subject, pack, EDITS)
        alone = torch.stack([plain(subject, task, e).detach() for e in pack.examples])
        torch.testing.assert_close(read - read[:, :1], alone - alone[:, :1], rtol=1e-4, atol=1e-3)
        members = task.readout.members(subject, task, pack.examples, "behavior")
        lines = [m._replace(lines=m.encoded.choices) for m in members]
        tokens = pack.reader.tokens[..., None]
        slow = build(subject, lines, LineReader(tokens, torch.ones_like(tokens[..., 0]), mean=False))
        torch.testing.assert_close(read_pack(subject, slow, EDITS), alone, rtol=1e-4, atol=1e-3)


def test_what_lies_behind_a_shorter_choice_is_never_read(subject: Subject) -> None:
    pack = next(p for p in packs(subject, Phrases()) if p.reader.lengths[0, 0] == 1)  # type: ignore[attr-defined]
    before = read_pack(subject, pack, EDITS)
    for line, changes in ((0, False), (2, True)):  # of one token and of three; the last one is predicted, never read
        ids = pack.ids.clone()
        ids[line :: pack.lines, -1] = 7
        now = read_pack(subject, replace(pack, ids=ids), EDITS)
        assert (not torch.allclose(now[:, line], before[:, line], atol=1e-3)) is changes
        others = [i for i in range(3) if i != line]
        torch.testing.assert_close(now[:, others], before[:, others], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [FullPass, TailPass])
def test_a_row_does_not_depend_on_its_pack(subject: Subject, kind: type[FullPass | TailPass]) -> None:
    task = Phrases()
    for pack in packs(subject, task):
        writes, delta = Writes((1,), pack.readout, 1, after=False), drawn(len(pack), 1, 1)
        rows = pack.everyone.flip(0)
        together = kind(subject, pack, EDITS, writes)(delta, rows).read
        for i, row in enumerate(rows.tolist()):
            (alone,) = make_packs(subject, task, [pack.examples[row]], 1)
            read = kind(subject, alone, EDITS, writes)(delta[[i]], torch.zeros(1, dtype=torch.long)).read
            torch.testing.assert_close(read[0], together[i], rtol=1e-4, atol=1e-3)


def test_a_choice_that_is_no_token_or_unknown_is_named() -> None:
    made = tiny.subject()
    for choices, message in ((("w5", " "), "is no token"), (("w5 w6", "w7 w99"), "is unknown to")):
        with pytest.raises(UsageError, match=f"e: the choice .*{message}"):
            Choices().encode(made.tokenizer, Example("e", "c", "w3", choices))


# --- suffixes and streams


@pytest.mark.parametrize("kind", [FullPass, TailPass])
def test_a_soft_suffix_stands_behind_the_prompt_of_every_line(
    subject: Subject, kind: type[FullPass | TailPass]
) -> None:
    task = Phrases()
    for pack in packs(subject, task):
        room, writes = pack.with_suffix(2), Writes((0,), pack.suffix_at, 2, after=False)
        delta = drawn(len(pack), 1, 2, 0.3)
        read = kind(subject, room, EDITS, writes)(delta, pack.everyone).read
        for i, example in enumerate(pack.examples):
            tokens = pack.prompt[i].tolist()
            passage = Passage(EDITS, {0: delta[i]}, writes.start)
            alone = plain(subject, task, example, passage, [*tokens, *tokens[-1:] * 2])
            torch.testing.assert_close(read[i], alone.detach(), rtol=1e-4, atol=1e-3)
        assert not torch.allclose(read, read_pack(subject, pack, EDITS), atol=0.1)


def test_a_typed_suffix_is_read_like_the_longer_prompt(subject: Subject) -> None:
    task = Phrases()
    for pack in packs(subject, task):
        prompts = torch.cat([pack.prompt, torch.tensor([[7, 8]]).expand(len(pack), -1)], 1)
        typed = pack.retyped(prompts, is_special(subject, prompts))
        longer = [replace(e, prompt=f"{e.prompt} w7 w8") for e in pack.examples]
        (expected,) = make_packs(subject, task, longer, 99)
        assert torch.equal(typed.ids, expected.ids) and typed.readout == expected.readout
        torch.testing.assert_close(read_pack(subject, typed, EDITS), read_pack(subject, expected, EDITS))


@pytest.mark.parametrize("kind", [FullPass, TailPass])
def test_the_stream_of_a_prompt_is_that_of_the_prompt_without_its_choices(
    subject: Subject, kind: type[FullPass | TailPass]
) -> None:
    """What drift is measured on."""
    task, bare, sites = Phrases(), ToyTask(), frozenset({1, 3, tiny.LAYERS})
    for pack in packs(subject, task):
        (single,) = make_packs(subject, bare, [replace(e, choices=("w5", "w6")) for e in pack.examples], 99)
        for writes in (Writes((1,), pack.readout, 1, after=False), Writes((1,), pack.readout - 2, 3, after=True)):
            delta = drawn(len(pack), 1, writes.width)
            ours, theirs = (kind(subject, p, EDITS, writes)(delta, p.everyone, sites).stream for p in (pack, single))
            quiet = kind(subject, pack, EDITS, writes)(None, pack.everyone, sites).stream
            for b in sites:
                assert ours[b].shape == (len(pack), writes.width, tiny.D_MODEL)
                torch.testing.assert_close(ours[b], theirs[b], rtol=1e-4, atol=1e-4)
                assert not torch.allclose(ours[b], quiet[b], atol=0.1)
    examples, halve = task.examples("test"), {Site(2): Halve()}
    for site in (Site(1), Site(3)):
        ours, theirs = (token_stream(subject, t, examples, site, halve) for t in (task, bare))
        assert ours.shape == theirs.shape, "in an order of its own"
        torch.testing.assert_close(ours.norm(dim=1).sort().values, theirs.norm(dim=1).sort().values)
        ours, theirs = (readout_streams(subject, t, examples, frozenset({3}), halve)[3] for t in (task, bare))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


# --- cells


@pytest.fixture(scope="module")
def halved() -> Group:
    return halved_group(tiny.subject(seed=1), Phrases())


def test_the_tail_pass_may_stand_in_for_the_full_one(halved: Group) -> None:
    assert tail_is_exact(halved, [threat(name) for name in THREATS.names()])


@pytest.mark.parametrize("name", ["before_edit", "after_edit", "soft_suffix"])
def test_what_a_cell_calls_recovered_is_recovered_in_a_plain_forward(halved: Group, name: str) -> None:
    """And what it calls held is held."""
    attack = SoftSuffix(search=MinimumNorm(steps=10)) if name == "soft_suffix" else replace(SEARCH, threat_model=name)
    budgets = (0.03, 0.3, 1.0)
    rows, deltas = cell(halved, attack, budgets)
    task: Any = halved.task
    for row in rows:
        example, delta = named(halved, row), deltas[row["example_id"]][budgets.index(row["budget_eps"])]
        tokens = list(task.readout.encode(halved.subject.tokenizer, example).tokens)
        start = len(tokens) - 1
        if name == "soft_suffix":
            start, tokens = len(tokens), [*tokens, *tokens[-1:] * 2]
        at = 0 if name == "soft_suffix" else 2
        passage = Passage(halved.edits, {at: delta}, start, write_after=name == "after_edit")
        with torch.no_grad():
            read = plain(halved.subject, task, example, passage, tokens)
        assert (read.argmax() == example.answer) == row["recovered"] and row["status"] == "ok"
        best = read[torch.arange(3) != example.answer].max()
        assert float(read[example.answer] - best) == pytest.approx(row["margin_attacked"], abs=1e-3)
    assert {row["recovered"] for row in rows} == {True, False}


def test_a_typed_row_is_what_a_user_gets_who_types_it(halved: Group) -> None:
    rows, tokens = cell(halved, Gcg(steps=2, candidates=8), (1.0, 2.0))
    for row in rows:
        suffix = [t for t in tokens[row["example_id"]][int(row["budget_eps"]) - 1].tolist() if t >= 0]
        example = named(halved, row)
        typed = replace(example, prompt=f"{example.prompt} {halved.subject.tokenizer.decode(suffix)}")
        judged = judge(halved.subject, halved.task, [typed], halved.fitted.edits)
        assert float(judged.margin) == pytest.approx(row["margin_attacked"], abs=1e-3)
        assert row["delta_norm"] == len(suffix)
    assert any(row["recovered"] for row in rows)


def test_the_search_for_tokens_sees_what_typing_them_does(halved: Group) -> None:
    subject, task = halved.subject, halved.task
    for pack in make_packs(subject, task, halved.examples, 99):
        terms = Gcg().terms(0)
        problem = threat("token_suffix").problem(halved, terms, (2.0,), pack, PackSize(4))
        suffix = problem.draw()
        prompts = torch.cat([pack.prompt, suffix], 1)
        read = read_pack(subject, pack.retyped(prompts, is_special(subject, prompts)), halved.edits)
        criteria = pack.judged_by(halved.saturation[[halved.place[e.id] for e in pack.examples]])
        typed = task.readout.objective(task.verdict, read, criteria)
        torch.testing.assert_close(problem.evaluate(suffix).objective, typed, rtol=1e-4, atol=1e-3)
        assert (problem.slope(suffix).gradient.flatten(1).norm(dim=1) > 0).any()


def test_drift_is_that_of_the_prompt_whatever_the_choices(tmp_path: Any) -> None:
    """The same random vectors behind the same prompts, with choices of one token and of several."""
    group, attack = clamped_group(tmp_path), RandomDirection(restarts=1)
    one = replace(group, attribution=False)
    base, defended = (judge(group.subject, Phrases(), group.examples, e) for e in ({}, group.fitted.edits))
    examples = Phrases().examples("test")
    several = replace(one, task=Phrases(), examples=examples, base=base, defended=defended, eligible=base.shown)
    ours, theirs = ({row["example_id"]: row for row in cell(g, attack, (1.0,))[0]} for g in (several, one))
    both = ours.keys() & theirs.keys()
    assert len(both) > 2
    for name in both:
        for column in ("drift_abs", "drift_rel", "drift_pre_abs", "reactivated_mass", "delta_norm"):
            assert ours[name][column] == pytest.approx(theirs[name][column], rel=1e-3, abs=1e-4), column
        assert ours[name]["drift_abs"] > 0.01 and ours[name]["margin_attacked"] != theirs[name]["margin_attacked"]


def test_readout_positions_see_no_choice(subject: Subject) -> None:
    """A control of the comparisons above: what is forced behind the prompt changes nothing before it."""
    pack = packs(subject, Phrases())[0]
    run = FullPass(subject, pack, EDITS, Writes((), 0, 0, after=False))
    stream = run(None, pack.everyone, frozenset({AT})).stream[AT]
    assert stream.shape[1] == pack.length == pack.readout + 1 < pack.ids.shape[1]
    torch.testing.assert_close(run.whole(None, pack.everyone, AT), stream)
