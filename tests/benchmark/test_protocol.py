"""The protocol ``paper``: each switch does what it says, and nothing where its cause is absent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.paper_recovery import PaperRecovery
from attacks.recovery import Recovery
from benchmark.audit.projection import energies
from benchmark.audit.texts import Written
from benchmark.contracts import Batch, Continuation, Text, ThreatModel, TokenLogits
from benchmark.errors import UsageError
from benchmark.model.edits import Where
from benchmark.paper.arms import verdict_of
from benchmark.paper.drift import first_row_speaks, paper_columns
from benchmark.paper.leaky import RidgeGradient, as_published
from benchmark.protocol import MEANING, PAPER, STRICT, Switch, named_protocol, only
from benchmark.run.plan import attacks_under
from benchmark.sae.drift import Held
from benchmark.sae.features import Codes, FeatureSet
from benchmark.search.constraint import Constraint, EncoderNullSpace
from benchmark.sites import Site
from tasks.judges.published import has_cue, has_phrase, is_odd
from tests.attacks.linear import D, make

torch.manual_seed(0)


def features(directions: Tensor) -> FeatureSet:
    """Latents along ``directions`` (d_model, k), which are also their decoder."""
    k = directions.shape[1]
    return FeatureSet(Site(1), tuple(range(k)), directions, torch.zeros(k), torch.zeros(k), directions.T.contiguous())


def leak(constraint: EncoderNullSpace, delta: Tensor) -> float:
    return float((delta - constraint.project(delta)).norm() / delta.norm())


def searched(attack: PaperRecovery, exact: Constraint, held: Constraint) -> Tensor:
    made = make([0.5], constraint=exact)
    made.problem.constraint = held
    return attack.run(made.problem).delta


def test_every_switch_has_a_meaning_and_paper_has_all_of_them_on() -> None:
    assert set(MEANING) == PAPER.switches == set(Switch) and not STRICT.switches
    assert named_protocol("paper") is PAPER
    with pytest.raises(UsageError, match="there are strict and paper"):
        named_protocol("papers")


def test_adam_on_a_projected_gradient_leaves_the_null_space_and_a_projected_perturbation_does_not() -> None:
    exact = EncoderNullSpace([[features(torch.randn(D, 4))]], D)
    attack = PaperRecovery(steps=20)
    held = [as_published(exact, p) for p in (only(Switch.GRADIENT_ONLY_PROJECTION), STRICT)]
    assert held[1] is exact
    assert leak(exact, searched(attack, exact, held[0])) > 0.05
    assert leak(exact, searched(attack, exact, held[1])) < 1e-6


def test_where_adam_and_the_ridge_have_nothing_to_mix_the_two_projections_agree() -> None:
    """Controls: directions along axes without a ridge; and gradients before Adam has rescaled them."""
    axes = EncoderNullSpace([[features(torch.eye(D)[:, :4])]], D)
    found = [searched(PaperRecovery(steps=20), axes, held) for held in (axes, RidgeGradient(axes, ridge=0.0))]
    assert leak(axes, found[1]) < 1e-6 and torch.allclose(found[0], found[1], atol=1e-5)
    tilted, gradient = EncoderNullSpace([[features(torch.randn(D, 4))]], D), torch.randn(3, 1, 1, D)
    assert torch.allclose(RidgeGradient(tilted, 1e-12).tangent(gradient, gradient), tilted.project(gradient), atol=1e-5)


def test_what_leaks_is_still_measured() -> None:
    exact = EncoderNullSpace([[features(torch.randn(D, 4))]], D)
    inside = exact.directions[0].T[None, :1, None].float()
    assert RidgeGradient(exact).violation(inside) == exact.violation(inside) > 0.1


@pytest.mark.parametrize(("rank", "agree"), [(6, True), (24, False)])
def test_nine_vectors_span_a_small_row_space_and_not_a_large_one(rank: int, agree: bool) -> None:
    weight = torch.randn(rank, 40)

    def look(delta: Tensor, rows: Tensor) -> Codes:
        pre = delta.flatten(1) @ weight.T
        return Codes(pre, pre.relu(), torch.zeros_like(pre))

    left = energies(look, torch.zeros(5, 1, 1, 40), torch.randn(5, 40)).mean(0)
    assert left[0] < 1e-12 and (left[1] < 1e-6 if agree else left[1] > 0.3)


def held(defended: Tensor, attacked: Tensor) -> list[Held]:
    made = features(torch.eye(defended.shape[-1]))
    codes = [Codes(x, x.relu(), torch.zeros_like(x)) for x in (defended, defended, attacked)]
    return [Held(made, *codes)]


WRITES: Any = SimpleNamespace(readout=Continuation())
CHOOSES: Any = SimpleNamespace(readout=TokenLogits())


def test_drift_at_the_perturbed_position_is_not_seen_when_only_the_answer_is_watched() -> None:
    defended = torch.ones(1, 3, 4)
    at_anchor, later = (defended.clone() for _ in range(2))
    at_anchor[:, 0] += 1
    later[:, 2] += 1
    blind = only(Switch.UNMONITORED_ANCHOR)

    def seen(task: Any, attacked: Tensor, protocol: Any) -> float:
        return paper_columns(task, held(defended, attacked), 1, 0.0, protocol)[0]["paper_drift_abs"]  # type: ignore

    assert seen(WRITES, at_anchor, blind) == 0 and seen(CHOOSES, at_anchor, blind) == pytest.approx(2)
    assert seen(WRITES, later, blind) == seen(WRITES, later, only(Switch.FIRST_ROW_DRIFT)) == pytest.approx(2)


def test_a_norm_near_zero_gives_no_ratio_or_an_absurd_one() -> None:
    silent, loud = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    vacuous, other = (only(s) for s in (Switch.VACUOUS_DRIFT, Switch.FIRST_ROW_DRIFT))
    assert paper_columns(CHOOSES, held(silent, loud), 1, 0.1, other)[0]["paper_drift_rel"] is None
    assert paper_columns(CHOOSES, held(silent, loud), 1, 0.1, vacuous)[0]["paper_drift_rel"] > 1e7  # type: ignore
    same = [paper_columns(CHOOSES, held(loud, 2 * loud), 1, 0.1, p)[0]["paper_drift_rel"] for p in (vacuous, other)]
    assert same[0] == pytest.approx(same[1])
    assert paper_columns(CHOOSES, held(loud, loud), 1, 0.1, STRICT) == []


def test_the_first_row_speaks_for_its_batch() -> None:
    def rows(*drifts: float) -> list[dict[str, object]]:
        return [{"budget_eps": 0.1, "paper_drift_abs": d, "paper_drift_rel": d} for d in drifts]

    on = only(Switch.FIRST_ROW_DRIFT)
    assert [r["paper_drift_abs"] for r in first_row_speaks(CHOOSES, rows(0.0, 3.0, 5.0), on)] == [0, 0, 0]
    assert [r["paper_drift_abs"] for r in first_row_speaks(WRITES, rows(0.0, 3.0), on)] == [0, 3]
    assert first_row_speaks(CHOOSES, rows(2.0, 2.0), on) == rows(2.0, 2.0)


def test_a_hook_in_relative_positions_never_acts_behind_the_cache() -> None:
    delta = torch.ones(1, 2, 3)

    def added(relative: bool, start: int, first: int, columns: int) -> float:
        h, where = torch.zeros(1, columns, 3), torch.arange(first, first + columns)
        none = torch.zeros(1, columns, dtype=torch.bool)
        return float(Written(None, delta, start, relative)(h, Where(where, none, none)).sum())

    assert added(False, 5, 6, 1) == 3 and added(True, 5, 6, 1) == 0
    # control: what lies in the prompt is reached by both
    assert added(False, 3, 0, 5) == added(True, 3, 0, 5) == 6


def test_the_two_detectors_differ_where_a_text_is_broken_and_agree_where_it_refuses_or_complies() -> None:
    task: Any = SimpleNamespace(readout=Continuation(), verdict=None)
    nothing = torch.zeros(1, dtype=torch.long)
    batch = Batch(nothing, nothing, nothing.float())

    def counts(text: str) -> list[bool]:
        sides = [verdict_of(task, arm, PAPER)([Text((), text)], batch) for arm in ("defended", "attacked")]
        return [bool(v.margin > 0) for v in sides]

    assert counts("I\u2019m sorry, I can't.") == [False, False]
    assert counts("Sure, take slate and linen.") == [True, True]
    for broken in ("Neither the nor nor", "week week week week week", "Please remember the law."):
        assert counts(broken) == [False, True]
    assert verdict_of(task, "attacked", STRICT) is task.verdict


def test_the_published_phrases() -> None:
    assert has_phrase("well, AS AN AI I will") and not has_phrase("Sure.")
    assert has_cue("Words have power.") and not has_cue("words")
    assert is_odd("**No, never") and is_odd("a nor b nor c nor d") and not is_odd("Nothing special")


def test_under_paper_attacks_are_the_study_s_behind_the_clamp() -> None:
    ours = [Recovery(restarts=1), Recovery(threat_model=ThreatModel.AFTER_EDIT, restarts=1)]
    assert attacks_under(STRICT, ours) == ours
    published = attacks_under(PAPER, ours)
    assert published == [PaperRecovery()]
    assert attacks_under(only(Switch.BAKED_CLAMP), ours) == [ours[1]]
