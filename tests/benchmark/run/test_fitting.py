"""What a defense sees while it learns: the split `fit` and nothing else, and the very problem that an attack gets."""

from __future__ import annotations

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
from benchmark.contracts.readout import Criteria, Verdict
from benchmark.measure.group import Group, Scale
from benchmark.measure.judging import judge
from benchmark.model.pack import make_packs
from benchmark.model.passes import FullPass, Writes
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


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("ask", ["examples", "retain"])
def test_every_other_split_is_refused(fitting: Fit, split: Any, ask: str) -> None:
    with pytest.raises(UsageError, match=f"toy: a defense learns from the split fit alone; it asked for '{split}'"):
        getattr(fitting.task, ask)(split)
    assert list(getattr(fitting.task, ask)("fit")) == list(getattr(Kept(), ask)("fit"))


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
    with pytest.raises(UsageError, match="learns from the split fit alone; it asked for 'test'"):
        evaluate([DEFENSE, Cheat()], suite=suite, output_dir=tmp_path / "run", **{**FEW, "attacks": ["zero"]})
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
    step = 1e-3 * slope / slope.norm()
    with torch.no_grad():
        edit.factor.add_(step)
        ahead = problem.objective(delta).sum()
        edit.factor.sub_(2 * step)
        behind = problem.objective(delta).sum()
    assert float(ahead - behind) == pytest.approx(2e-3 * float(slope.norm()), rel=0.1), "and the problem follows it"
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


def test_gradients_are_of_what_is_to_be_suppressed_and_for_retain_of_what_must_not_be_lost(fitting: Fit) -> None:
    task = Kept()
    for examples, objective in (
        (fitting.examples, task.readout.objective),
        (fitting.retain, task.readout.retain_objective),
    ):
        for slopes in fitting.gradients([HERE, Site(3)], examples):
            first = slopes[0]
            pack = next(p for p in make_packs(fitting.subject, task, examples, 32) if p.length == first.stream.shape[1])
            run = FullPass(fitting.subject, pack, {}, Writes((2, 3), 0, pack.length, after=False))
            zero = torch.zeros(len(pack), 2, pack.length, D_MODEL, requires_grad=True)
            value = objective(task.verdict, run(zero, pack.everyone).read, pack.unread()).sum()
            (expected,) = torch.autograd.grad(value, zero)
            for i, found in enumerate(slopes):
                torch.testing.assert_close(found.gradient, expected[:, i], rtol=1e-4, atol=1e-4)
                assert found.stream.shape == found.gradient.shape and not found.ordinary[:, 0].any()
    mine, theirs = (next(fitting.gradients([HERE], e))[0].gradient for e in (task.examples("fit")[:6], fitting.retain))
    assert mine.shape == theirs.shape and not torch.allclose(mine, theirs), "the same prompts, asked otherwise"


def weaker(h: Tensor, where: Where) -> Tensor:
    return torch.where(where.special[..., None], h, h - 0.5 * h.flip(-1))


def test_an_outcome_is_what_is_lost_and_what_is_kept(fitting: Fit) -> None:
    shown, held = (judge(fitting.subject, fitting.task, fitting.examples, e).shown for e in ({}, {HERE: weaker}))
    found = fitting.outcome({HERE: weaker})
    assert found.suppressed == pytest.approx(float((shown & ~held).sum() / shown.sum()))
    assert 0 < (found.suppressed or 0.0) < 1
    assert fitting.outcome({}) == Outcome(0.0, 1.0)
    assert fitting.labels(fitting.examples) == ["yes" if hit else "no" for hit in shown.tolist()]
    assert fitting.labels(fitting.examples, {HERE: weaker}) == ["yes" if hit else "no" for hit in held.tolist()]


class Table(Fit):
    """What every strength does is known beforehand: (share suppressed, share kept)."""

    known: dict[float, tuple[float | None, float | None]]
    tried: list[float]

    def outcome(self, edits: Any) -> Outcome:
        self.tried.append(edits["strength"])
        return Outcome(*self.known[edits["strength"]])


@pytest.mark.parametrize(
    ("known", "found", "tried"),
    [
        ({1.0: (0.3, 1.0), 2.0: (0.7, 0.95), 3.0: (0.9, 0.95)}, 2.0, 2),  # the first that is enough
        ({1.0: (0.3, 1.0), 2.0: (0.5, 0.95), 3.0: (0.9, 0.85)}, 2.0, 3),  # the most that keeps enough
        ({1.0: (0.5, 1.0), 2.0: (0.5, 1.0), 3.0: (0.4, 1.0)}, 1.0, 3),  # the weakest of the best
        ({1.0: (0.3, 1.0), 2.0: (0.5, 0.75), 3.0: (0.9, 1.0)}, 1.0, 2),  # what costs far too much ends the search
        ({1.0: (0.3, None), 2.0: (0.7, None), 3.0: (0.9, None)}, 2.0, 2),  # nothing is to be kept
        ({1.0: (0.3, 0.85), 2.0: (0.7, 0.85), 3.0: (0.9, 0.85)}, None, 3),
    ],
)
def test_calibration_takes_the_first_strength_that_is_enough_and_keeps_enough(
    fitting: Fit, known: Any, found: float | None, tried: int
) -> None:
    table = Table(fitting.subject, viewed(Kept()), HERE)
    table.known, table.tried = known, []
    settings: Any = {"target_share": 0.6, "retain_share": 0.9}
    if found is None:
        with pytest.raises(UsageError, match="no strength down to 1.0 keeps 90% of the retain set of toy"):
            table.calibrate(lambda strength: {"strength": strength}, list(known), **settings)  # type: ignore[dict-item]
    else:
        chosen = table.calibrate(lambda strength: {"strength": strength}, list(known), **settings)  # type: ignore[dict-item]
        assert chosen == (found, Outcome(*known[found]))
    assert table.tried == list(known)[:tried]


class Hidden(Kept):
    """A behavior that the model never shows."""

    def verdict(self, read: Tensor, criteria: Criteria) -> Verdict:
        return Verdict(["no"] * len(read), torch.full((len(read),), -1.0))


def test_where_nothing_is_shown_there_is_nothing_to_calibrate_on(fitting: Fit) -> None:
    seen = Fit(fitting.subject, viewed(Hidden()), HERE)
    assert seen.outcome({}).suppressed is None
    with pytest.raises(UsageError, match="tiny shows toy on no `fit` example"):
        seen.calibrate(lambda strength: {}, (1.0,), target_share=0.5, retain_share=0.5)


def test_an_sae_is_opened_where_the_suite_has_one(tmp_path: Path) -> None:
    seen = Fit(subject(saes={SITE: sae_folder(tmp_path)}), viewed(), HERE)
    assert seen.sae(HERE).width == 64
    with pytest.raises(UsageError):
        seen.sae(Site(0))


# --- once, dealt


def test_what_several_recipes_start_from_is_made_once_a_fitting(fitting: Fit) -> None:
    made: list[str] = []

    def make(what: str) -> Any:
        return lambda: made.append(what) or [what]

    first = fitting.once("key", make("a"))
    assert fitting.once("key", make("b")) is first == ["a"] and made == ["a"]
    assert fitting.once(("key", 2), make("c")) == ["c"], "another key is another thing"
    assert Fit(fitting.subject, viewed(Kept()), HERE).once("key", make("d")) == ["d"], "and so is another fitting"
    assert fitting.dealt(fitting.examples, fitting.retain).once("key", make("e")) == ["e"]


def test_dealt_examples_take_the_place_of_the_tasks(fitting: Fit) -> None:
    some, rest = list(fitting.retain), list(fitting.examples[:5])
    dealt = fitting.dealt(some, rest)
    assert (list(dealt.examples), list(dealt.retain)) == (some, rest)
    assert (list(fitting.examples), list(fitting.retain)) != (some, rest)
    torch.testing.assert_close(dealt.streams(HERE), fitting.streams(HERE, some))
    assert dealt.outcome({HERE: Halve()}) != fitting.outcome({HERE: Halve()})
    with pytest.raises(UsageError, match="asked for 'test'"):
        dealt.task.examples("test")
