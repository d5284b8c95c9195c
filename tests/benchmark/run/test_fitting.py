"""What a run shows to a defense that learns: the thinned split `fit`, and the very problem that an attack gets.

The rest of it is tested where it is used, beside the defenses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark import Defense, FittedDefense, Fitting, UsageError, evaluate
from benchmark.contracts.attack import Terms
from benchmark.contracts.defense import Outcome, Where
from benchmark.contracts.example import Example, Split
from benchmark.measure.group import Group, Scale
from benchmark.measure.judging import judge
from benchmark.model.pack import make_packs
from benchmark.readouts.choices import Choices
from benchmark.registry import threat
from benchmark.run.fitting import Fit
from benchmark.run.task_view import TaskView
from benchmark.search.pack_size import PackSize
from benchmark.sites import Site
from tests.groups import Halve, toy_group
from tests.tiny import D_MODEL, SITE, ToyTask, sae_folder, subject, viewed
from tests.toy_run import DEFENSE, FEW

HERE = Site.parse(SITE)
BUDGETS = (0.2, 1.0)


class Kept(ToyTask):
    """A retain set of its own, read by another answer."""

    def retain(self, split: Split) -> Sequence[Example]:
        return [replace(e, id=f"kept/{e.id}", answer=1) for e in self.examples(split)[:6]]


@pytest.fixture(scope="module")
def fitting() -> Fit:
    return Fit(subject(), viewed(Kept()), HERE)


# --- one split


def test_what_is_shown_is_fit_and_thinned_as_the_suite_says() -> None:
    view = TaskView(Kept(), "mine", test=2, sample=5)
    seen = Fit(subject(), view, HERE)
    assert list(seen.examples) == list(view.examples("fit")) and len(seen.examples) == 5
    assert list(seen.retain) == list(view.retain("fit")) and len(seen.retain) == 5
    assert (seen.task.name, seen.site) == ("mine", HERE)


@dataclass(frozen=True)
class Cheat(Defense):
    """Looks where it must not."""

    name = "cheat"

    def fit(self, fitting: Fitting) -> FittedDefense:
        return FittedDefense({}, record={"peeked": len(fitting.task.examples("test"))})


def test_a_defense_that_looks_at_test_is_told_so_and_what_was_finished_stays(suite: str, tmp_path: Path) -> None:
    found = evaluate([Cheat(), DEFENSE], suite=suite, output_dir=tmp_path / "run", **{**FEW, "attacks": ["zero"]})
    assert found.status == "partial"
    assert (
        "learns from the split fit alone; take that one, it asked for 'test'"
        in (tmp_path / "run" / "events.jsonl").read_text()
    )
    assert len(list((tmp_path / "run" / "cells").iterdir())) == 1
    assert [p.name for p in (tmp_path / "run" / "fits").iterdir()] == ["toy__sae-clamp.json"]


# --- recovery


class Scaled(nn.Module):
    """h' = h * factor wherever the text is ordinary."""

    position_wise = True

    def __init__(self, *, cut: bool = False) -> None:
        super().__init__()
        self.factor, self.cut = nn.Parameter(torch.linspace(-1, 1, D_MODEL)), cut

    def forward(self, h: Tensor, where: Where) -> Tensor:
        factor = self.factor.detach() if self.cut else self.factor
        return torch.where(where.special[..., None], h, h * factor)


def group_on_fit(fitting: Fit, edits: Any, scale: Scale) -> Group:
    """What a cell would know, were it about the examples of `fit`."""

    class OnFit(ToyTask):
        def examples(self, split: Split) -> Sequence[Example]:
            return super().examples("fit")

    made = toy_group(fitting.subject, OnFit(), FittedDefense(edits), scale=scale)
    return replace(made, task=fitting.task, tail=True)


@pytest.mark.parametrize("name", ["before_edit", "after_edit", "soft_suffix"])
def test_recovery_is_the_problem_that_an_attack_gets(name: str) -> None:
    scale = Scale(dict.fromkeys(range(5), 2.0), 0.5)
    fitting = Fit(subject(), viewed(Kept()), HERE, scale=scale, perturbed=2, suffix_tokens=3)
    edits = {Site(2): Halve()}
    group = replace(group_on_fit(fitting, edits, scale), perturbed=2, suffix_tokens=3)
    shown = [e for e, hit in zip(fitting.examples, group.base.shown.tolist(), strict=True) if hit]
    packs = make_packs(fitting.subject, fitting.task, shown, 256)
    ours, terms = fitting.recovery(edits, name, BUDGETS), Terms("none", "behavior", 1, "fit")
    assert sum(p.grid[0] for p in ours) == len(shown) < len(fitting.examples) and len(ours) == len(packs)
    for mine, pack in zip(ours, packs, strict=True):
        cells = threat(name).problem(group, terms, BUDGETS, pack, PackSize(4))
        assert torch.equal(mine.budget, cells.budget) and mine.grid == cells.grid
        delta = mine.restore(mine.noise())
        torch.testing.assert_close(mine.noise(), cells.noise())
        (a, slope), (b, expected) = mine.slope(delta), cells.slope(delta)
        torch.testing.assert_close(a.objective, b.objective, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-3)
        assert (slope.flatten(1).norm(dim=1) > 0).any()
        torch.testing.assert_close(mine.objective(delta), a.objective, rtol=1e-4, atol=1e-3)
        undefended = threat(name).problem(replace(group, edits={}), terms, BUDGETS, pack, PackSize(4))
        assert not torch.allclose(undefended.evaluate(delta).objective, a.objective, atol=0.1), "the edit is live"


@pytest.mark.parametrize("name", ["before_edit", "soft_suffix"])
def test_its_objective_has_a_slope_by_what_an_edit_learns(fitting: Fit, name: str) -> None:
    edit = Scaled()
    problem = max(fitting.recovery({HERE: edit}, name, BUDGETS), key=lambda p: p.rows)
    delta = problem.restore(problem.noise())
    value = problem.objective(delta).sum()
    (slope,) = torch.autograd.grad(value, edit.factor)
    assert slope.isfinite().all() and slope.norm() > 0.01
    step = 1e-2 * slope / slope.norm()
    with torch.no_grad():
        edit.factor.add_(step)
        ahead = problem.objective(delta).sum()
        edit.factor.sub_(2 * step)
        behind = problem.objective(delta).sum()
        fresh = max(fitting.recovery({HERE: edit}, name, BUDGETS), key=lambda p: p.rows)
        torch.testing.assert_close(fresh.objective(delta).sum(), behind)
    assert float(ahead - behind) == pytest.approx(2e-2 * float(slope.norm()), rel=0.1), "and the problem follows it"
    cut = fitting.recovery({HERE: Scaled(cut=True)}, name, BUDGETS)[0]
    assert not cut.objective(cut.nothing()).requires_grad, "unless it is cut off"


def test_recovery_where_there_is_none_says_why(fitting: Fit) -> None:
    with pytest.raises(UsageError, match="unknown threat model 'before_edits'. Did you mean 'before_edit'"):
        fitting.recovery({}, "before_edits", BUDGETS)

    class Deaf(Choices):
        reached_by_suffix = False

    task = Kept()
    task.readout = Deaf()
    deaf = Fit(fitting.subject, viewed(task), HERE)
    with pytest.raises(UsageError, match="no recovery by soft_suffix on toy: .*a suffix has no place"):
        deaf.recovery({}, "soft_suffix", BUDGETS)


# --- what is measured


def weaker(h: Tensor, where: Where) -> Tensor:
    return torch.where(where.special[..., None], h, h - 0.5 * h.flip(-1))


def test_an_outcome_is_what_is_lost_and_what_is_kept(fitting: Fit) -> None:
    shown, held = (judge(fitting.subject, fitting.task, fitting.examples, e).shown for e in ({}, {HERE: weaker}))
    found = fitting.outcome({HERE: weaker})
    assert found.suppressed == pytest.approx(float((shown & ~held).sum() / shown.sum()))
    assert 0 < (found.suppressed or 0.0) < 1
    right = judge(fitting.subject, fitting.task, fitting.retain, {}).shown
    assert fitting.outcome({}) == Outcome(0.0, 1.0, int(shown.sum()), int(right.sum()))
    assert fitting.labels(fitting.examples) == ["yes" if hit else "no" for hit in shown.tolist()]
    assert fitting.labels(fitting.examples, {HERE: weaker}) == ["yes" if hit else "no" for hit in held.tolist()]


def test_what_is_broken_is_not_suppressed(fitting: Fit) -> None:
    edits = {HERE: lambda h, where: torch.where(where.special[..., None], h, h - 8 * h.flip(-1))}
    base, held = (judge(fitting.subject, fitting.task, fitting.examples, e) for e in ({}, edits))
    assert base.log_mass is not None and held.log_mass is not None
    lost = base.shown & ~held.shown
    floor = 0.9 * math.exp(float(base.log_mass[lost].min()))
    broken = held.log_mass < math.log(floor)
    assert 0 < (lost & broken).sum() < lost.sum(), "some are broken and some answered otherwise"
    judging = Fit(fitting.subject, viewed(Kept()), HERE, floor=floor)
    shown = base.shown & (base.log_mass >= math.log(floor))
    found = judging.outcome(edits)
    assert found.shown == int(shown.sum())
    assert found.suppressed == pytest.approx(float((lost & ~broken).sum() / shown.sum()))
    assert fitting.outcome(edits).suppressed == pytest.approx(float(lost.sum() / base.shown.sum())), "without a floor"
    assert judging.dealt(judging.examples, judging.retain).outcome(edits) == found


def test_an_sae_is_opened_where_the_suite_has_one(tmp_path: Path) -> None:
    seen = Fit(subject(saes={SITE: sae_folder(tmp_path)}), viewed(), HERE)
    assert seen.sae(HERE).width == 64
    with pytest.raises(UsageError):
        seen.sae(Site(0))


def test_what_is_dealt_from_a_fit_is_judged_as_if_it_were_asked_anew(fitting: Fit) -> None:
    examples, retain = list(fitting.examples)[1::2][::-1], list(fitting.retain)[::3][::-1]
    dealt, anew = fitting.dealt(examples, retain), Fit(subject(), viewed(Kept()), HERE)
    anew.examples, anew.retain = examples, retain
    for strength in (0.0, 0.5, 3.0):
        edits = {HERE: lambda h, where, s=strength: h - s * h.flip(-1)}
        assert dealt.outcome(edits) == anew.outcome(edits)
    assert dealt._shown.tolist() == anew._shown.tolist() and 0 < sum(dealt._shown.tolist()) < len(examples)
    mixed = fitting.dealt(retain, examples)  # as shuffled labels deal them: what is an example was kept before
    assert len(mixed._shown) == len(retain)


def test_dealt_examples_take_the_place_of_the_tasks(fitting: Fit) -> None:
    some, rest = list(fitting.retain), list(fitting.examples[:5])
    dealt = fitting.dealt(some, rest)
    assert (list(dealt.examples), list(dealt.retain)) == (some, rest)
    assert (list(fitting.examples), list(fitting.retain)) != (some, rest)
    torch.testing.assert_close(dealt.streams(HERE), fitting.streams(HERE, some))
    assert dealt.outcome({HERE: Halve()}) != fitting.outcome({HERE: Halve()})
    with pytest.raises(UsageError, match="asked for 'test'"):
        dealt.task.examples("test")
