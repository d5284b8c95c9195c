"""Problems searched as one come to what each comes to alone, and each pays what it costs alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.minimum_norm import MinimumNorm
from attacks.recovery import Recovery
from attacks.soft_suffix import SoftSuffix
from benchmark.contracts.attack import Attack
from benchmark.measure.group import Group
from benchmark.model.pack import make_packs
from benchmark.model.tail import TailBatch
from benchmark.registry import threat
from benchmark.search.batch import Batch, attempts
from benchmark.search.oracle import Slope
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from tests.groups import BUDGETS, clamped_group

SEARCH = MinimumNorm(steps=6)
ATTACKS = {
    "free": Recovery(restarts=2, search=SEARCH),
    "held": Recovery(restarts=2, constraint="encoder", search=SEARCH),
    "behind the edit": Recovery(threat_model="after_edit", restarts=1, search=SEARCH),
    "suffix": SoftSuffix(restarts=2, search=SEARCH),
    "unseen suffix": SoftSuffix(restarts=1, search=SEARCH, penalty=0.5),
}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    return clamped_group(tmp_path_factory.mktemp("sae"))


def problems(group: Group, attack: Attack, rows: int = 256) -> list[Problem]:
    packs = make_packs(group.subject, group.task, group.attacked, 256)
    size = PackSize(rows)
    return [threat(attack.threat_model).problem(group, attack.terms(0), BUDGETS, pack, size) for pack in packs]


def near(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many packs took part in each pass of several."""
    found: list[int] = []
    plain = TailBatch.__call__

    def counted(self: TailBatch, asked: Any, *rest: Any) -> Any:
        found.append(len(asked))
        return plain(self, asked, *rest)

    monkeypatch.setattr(TailBatch, "__call__", counted)
    return found


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("rows", [256, 5])
def test_together_they_come_to_what_they_come_to_alone(group: Group, name: str, rows: int, passes: list[int]) -> None:
    attack = ATTACKS[name]
    alone, together = problems(group, attack, rows), problems(group, attack, rows)
    assert len(alone) > 1, "prompts of several lengths"
    expected = attempts(attack, alone, together=False)
    assert not passes
    found = attempts(attack, together, together=True)
    assert max(passes) == len(alone) if rows == 256 else max(passes) > 1
    for mine, other, one, two in zip(together, alone, found, expected, strict=True):
        assert near(one.proposal, two.proposal) and torch.equal(one.converged, two.converged)
        for bill in ("forwards", "backwards", "slopes", "blind"):
            assert torch.equal(getattr(mine, bill), getattr(other, bill)), bill
        assert mine.backwards.sum() > 0


def test_every_witness_is_shown_its_own(group: Group) -> None:
    def watched(some: Sequence[Problem]) -> list[list[tuple[list[int], Tensor, Tensor, Tensor]]]:
        told: list[list[tuple[list[int], Tensor, Tensor, Tensor]]] = [[] for _ in some]

        def witness(k: int) -> Any:
            def look(rows: Tensor, delta: Tensor, slope: Slope) -> None:
                told[k].append((rows.tolist(), delta.clone(), slope.state.objective, slope.gradient))

            return look

        for k, problem in enumerate(some):
            problem.witness = witness(k)
        return told

    attack = ATTACKS["free"]
    alone, together = problems(group, attack), problems(group, attack)
    expected, found = watched(alone), watched(together)
    attempts(attack, alone, together=False)
    attempts(attack, together, together=True)
    for mine, others in zip(found, expected, strict=True):
        assert [rows for rows, *_ in mine] == [rows for rows, *_ in others] != []
        for (_, *one), (_, *two) in zip(mine, others, strict=True):
            assert all(near(a, b) for a, b in zip(one, two, strict=True))


def test_an_answer_stands_where_it_was_asked(group: Group) -> None:
    """Rows of all problems in any order, some twice."""
    alone = problems(group, ATTACKS["free"])
    batch = Batch(problems(group, ATTACKS["free"]))
    rows = torch.randperm(batch.rows, generator=torch.Generator().manual_seed(0)).repeat(2)[: batch.rows + 3]
    noise = batch.noise()[rows]
    found = batch.evaluate(noise, rows).objective
    each = torch.cat([problem.evaluate(problem.noise()).objective for problem in alone])
    assert near(found, each[rows]) and found.unique().numel() > len(rows) // 2


def test_what_bends_or_takes_the_full_pass_is_searched_alone(group: Group, passes: list[int]) -> None:
    bent = Recovery(restarts=1, constraint="jacobian", search=MinimumNorm(steps=2))
    for held, attack in ((group, bent), (replace(group, tail=False), ATTACKS["free"])):
        some = problems(held, attack)
        assert all(problem.form is None for problem in some)
        attempts(attack, some, together=True)
    assert not passes


def test_what_differs_in_form_is_not_mixed(group: Group, passes: list[int]) -> None:
    some = [problem for name in ("free", "suffix") for problem in problems(group, ATTACKS[name])]
    mixed = some[::2] + some[1::2]
    found = attempts(ATTACKS["free"], mixed, together=True)
    assert [a.proposal.shape for a in found] == [problem.zeros().shape for problem in mixed]
    assert passes and max(passes) < len(mixed)
