"""Typed suffixes from search to row: what is typed is what is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from attacks.gcg import Gcg
from attacks.random_suffix import RandomSuffix
from attacks.zero import Zero
from benchmark.contracts.attack import Attack, Attempt
from benchmark.contracts.example import Example
from benchmark.contracts.readout import Encoded
from benchmark.measure.group import Group
from benchmark.measure.judging import judge, read_pack
from benchmark.measure.remeasure import Measured
from benchmark.model.edits import is_special
from benchmark.model.lexicon import Lexicon
from benchmark.model.passes import FullPass, Writes
from benchmark.readouts.choices import Choices
from benchmark.run.cell import run_cell
from benchmark.run.plan import Cell
from benchmark.search.pack_size import PackSize
from benchmark.search.token_problem import TokenProblem
from benchmark.threats.token_suffix import _Search
from tests.attacks.typed import Letters, merging_subject
from tests.groups import Halve, halved_group
from tests.tiny import FAMILIES, ToyTask, bare, pack, subject

TOKENS = "token_suffix"


@pytest.fixture(scope="module")
def group() -> Group:
    return halved_group(subject(), ToyTask())


@pytest.fixture(scope="module")
def letters() -> Group:
    """Every example that is not shown under the defense is to be brought about, whether the base shows it or not."""
    found = halved_group(merging_subject(), Letters())
    everyone = torch.ones(len(found.examples))
    return replace(found, eligible=everyone.bool(), saturation=everyone)


@dataclass(frozen=True)
class Typed(Attack):
    """Proposes the same tokens for every example."""

    name = "typed"
    threat_model: str = TOKENS
    tokens: tuple[int, ...] = ()

    def run(self, problem: TokenProblem) -> Attempt:
        tokens = torch.tensor(self.tokens[: problem.length]).expand(problem.rows, -1)
        return Attempt(tokens, torch.ones(problem.rows, dtype=torch.bool))


def cell(group: Group, attack: Attack, budgets: Sequence[float], rows: int = 256) -> tuple[list[dict[str, Any]], Any]:
    done = run_cell(group, Cell("cell", "toy", "halved", attack, tuple(budgets)), PackSize(rows))
    return [row.columns() for row in done.rows if row.outcome.suppressed], done.proposals


def test_the_empty_suffix_recovers_nothing(group: Group) -> None:
    rows, _ = cell(group, Zero(threat_model=TOKENS), (0.0,))
    assert rows and not any(r["recovered"] for r in rows)
    for r in rows:
        assert r["margin_attacked"] == pytest.approx(r["margin_defended"], abs=1e-4) and r["delta_norm"] == 0


def test_a_row_is_what_a_user_gets_who_types_the_suffix(group: Group) -> None:
    rows, tokens = cell(group, Gcg(steps=2, candidates=8), (1.0, 2.0))
    assert rows
    named = {e.id: e for e in group.examples}
    for r in rows:
        suffix = [t for t in tokens[r["example_id"]][[1.0, 2.0].index(r["budget_eps"])].tolist() if t >= 0]
        example = named[r["example_id"]]
        typed = replace(example, prompt=f"{example.prompt} {group.subject.tokenizer.decode(suffix)}")
        assert float(judge(group.subject, group.task, [typed], group.fitted.edits).margin) == pytest.approx(
            r["margin_attacked"], abs=1e-3
        )
        assert r["delta_norm"] == len(suffix) <= r["budget_abs"] and not set(r["flags"]) - {"overshoot"}


def test_a_longer_budget_never_does_worse_and_a_success_costs_nothing_more(group: Group) -> None:
    rows, _ = cell(group, RandomSuffix(restarts=2), (1.0, 2.0, 4.0))
    for example in {r["example_id"] for r in rows}:
        own = [r for r in rows if r["example_id"] == example]
        hits, margins = [r["recovered"] for r in own], [r["margin_attacked"] for r in own]
        assert hits == sorted(hits)
        for i, r in enumerate(own):
            assert r["budget_abs"] == r["budget_eps"]
            if hits[max(i - 1, 0)] and i:
                assert (r["forwards"], r["delta_norm"]) == (0, own[i - 1]["delta_norm"])
            elif i and not hits[i]:
                assert margins[i] >= margins[i - 1] and r["forwards"] > 0
    assert len({r["recovered"] for r in rows}) == 2, "a grid on which everything or nothing succeeds shows nothing"


def test_what_the_text_does_not_keep_is_searched_for_once_more(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    attack, budgets = Gcg(steps=2, candidates=8), (1.0,)
    plain, tokens = cell(group, attack, budgets)
    hit = next(r["example_id"] for r in plain if r["recovered"])
    typed, searched = _Search.typed, list[list[str]]()

    def losing(self: _Search, target: Any, typist: Any, suffix: torch.Tensor, length: int) -> list[Measured]:
        ids = [e.id for e in target.plain.examples]
        rows = typed(self, target, typist, suffix, length)
        first = hit in ids and not any(hit in before for before in searched)
        searched.append(ids)
        return [row._replace(recovered=False) if first and i == hit else row for i, row in zip(ids, rows, strict=True)]

    monkeypatch.setattr(_Search, "typed", losing)
    found, others = cell(group, attack, budgets)
    assert [ids for ids in searched if hit in ids][1:] == [[hit]], "alone, and once"
    for before, after in zip(plain, found, strict=True):
        mine = before["example_id"] == hit
        assert after["forwards"] > before["forwards"] if mine else after["forwards"] == before["forwards"]
        assert mine or torch.equal(tokens[before["example_id"]], others[before["example_id"]])
        assert after["recovered"] or mine
    again = next(r for r in found if r["example_id"] == hit)
    assert again["recovered"] and "remeasurement-lost" not in again["flags"]
    monkeypatch.setattr(_Search, "typed", lambda *asked: [r._replace(recovered=False) for r in typed(*asked)])
    lost, _ = cell(group, attack, budgets)
    assert not any(r["recovered"] for r in lost), "it is asked once more and not until it is"
    assert next(r for r in lost if r["example_id"] == hit)["flags"].count("remeasurement-lost") == 1


@pytest.mark.parametrize("size", [1, 3])
def test_rows_do_not_depend_on_their_pack(group: Group, size: int) -> None:
    attack = Gcg(steps=2, candidates=6, goal="wrong")
    (whole, a), (split, b) = cell(group, attack, (1.0, 2.0)), cell(group, attack, (1.0, 2.0), rows=size)
    assert all(torch.equal(a[i], b[i]) for i in a)
    for x, y in zip(whole, split, strict=True):
        assert x["recovered"] == y["recovered"] and x["flags"] == y["flags"]
        assert x["margin_attacked"] == pytest.approx(y["margin_attacked"], abs=1e-3)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_search_sees_what_thetyped_tokens_do(family: str) -> None:
    """Also where embeddings are scaled or positions are added to them: the same readout, to rounding."""
    made = bare(family)
    plain, defense = pack(made, suffix_at=10), {2: Halve()}
    lexicon = Lexicon(made)
    lexicon.__dict__["allowed"] = torch.arange(60) > 2
    suffix = torch.tensor([[7, 8, 9], [10, 11, 12], [13, 14, 15]])
    held = plain.with_suffix(3)
    delta = (lexicon.vectors(suffix) - lexicon.vectors(held.ids[:, 10:13]))[:, None]
    searched = FullPass(made, held, defense, Writes((0,), 10, 3, after=False))(delta, torch.arange(3)).read
    prompts = torch.cat([plain.ids[:, :10], suffix, plain.ids[:, 10:]], 1)
    typed = read_pack(made, plain.retyped(prompts, is_special(made, prompts)), defense)
    torch.testing.assert_close(searched, typed, rtol=1e-3, atol=1e-3)


def test_merged_tokens_are_judged_as_the_tokenizer_reads_them(letters: Group) -> None:
    """The search wrote a and b; whoever types that has typed ab, which is one token."""
    rows, _ = cell(letters, Typed(tokens=(3, 4)), (2.0,))
    named = {e.id: e for e in letters.examples}
    assert rows
    for r in rows:
        example = named[r["example_id"]]
        typed = replace(example, prompt=example.prompt + "ab")
        (margin,) = judge(letters.subject, letters.task, [typed], letters.fitted.edits).margin.tolist()
        assert r["margin_attacked"] == pytest.approx(margin, abs=1e-4) and r["delta_norm"] == 1


def test_a_text_of_too_many_tokens_is_nottyped(letters: Group) -> None:
    """ef is one token to the search and two to the tokenizer."""
    rows, _ = cell(letters, Typed(tokens=(13,)), (1.0,))
    assert rows
    for r in rows:
        assert r["delta_norm"] == 0 and not r["recovered"] and "budget-violated" not in r["flags"]


def test_gcg_types_nothing_that_is_read_otherwise(letters: Group) -> None:
    rows, tokens = cell(letters, Gcg(steps=4, candidates=30), (2.0, 3.0))
    assert rows and all("remeasurement-lost" not in r["flags"] for r in rows)
    for suffixes in tokens.values():
        text = "".join(letters.subject.tokenizer.decode([t]) for t in suffixes[0].tolist() if t >= 0)
        assert len(letters.subject.tokenizer(text, add_special_tokens=False)["input_ids"]) == 2


def test_special_and_unfaithful_tokens_are_not_allowed(group: Group) -> None:
    allowed = Lexicon(group.subject).allowed
    assert not allowed[[0, 1, 2, 59]].any() and allowed[3:59].all()
    merged = Lexicon(merging_subject())
    assert merged.allowed[:13].tolist() == [False] * 3 + [True] * 10, "ef, the next one, is never read"
    assert not merged.allowed[13:].any()
    assert merged.allowed[merged.neutral]


def test_prompts_that_do_not_survive_beingtyped_are_not_attacked(letters: Group) -> None:
    """A task that hands over tokens which its tokenizer would never make."""

    class Unread(Choices):
        def encode(self, tokenizer: Any, example: Example) -> Encoded:
            made = super().encode(tokenizer, example)
            return replace(made, tokens=(1, 13, *made.tokens[3:]), readout=len(made.tokens) - 2)

    task = Letters()
    task.readout = Unread()
    rows, _ = cell(replace(letters, task=task), Gcg(steps=1), (1.0,))
    assert rows and all("tokenizer" in r["error"] and r["outcome"] is None for r in rows)
