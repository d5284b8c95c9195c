"""The protocol ``paper``: each switch does what it says, and nothing where its cause is absent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.random_direction import RandomDirection
from attacks.recovery import Recovery
from attacks.soft_suffix import SoftSuffix
from attacks.universal import Universal
from benchmark.contracts.defense import Codes, Where
from benchmark.contracts.protocol import Protocol
from benchmark.contracts.row import Row
from benchmark.measure.drift import Held
from benchmark.published.audit.projection import energies
from benchmark.published.audit.texts import Hook
from benchmark.published.drift import PaperDrift
from benchmark.published.leaky import RidgeGradient
from benchmark.published.protocol import Paper, only
from benchmark.published.recovery import PaperRecovery
from benchmark.published.switches import MEANING, Switch
from benchmark.registry import PROTOCOLS
from benchmark.sae.features import FeatureSet
from benchmark.search.constraint import Constraint, EncoderNullSpace
from benchmark.sites import Site
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
    return attack.run(made.problem).proposal


def test_every_switch_has_a_meaning_and_paper_has_all_of_them_on() -> None:
    paper, strict = PROTOCOLS.get("paper")(), PROTOCOLS.get("strict")()
    assert set(MEANING) == paper.switches == set(Switch)
    assert (paper.name, paper.ranked, strict.name, strict.ranked) == ("paper", False, "strict", True)


def test_adam_on_a_projected_gradient_leaves_the_null_space_and_a_projected_perturbation_does_not() -> None:
    exact = EncoderNullSpace([[features(torch.randn(D, 4))]], D)
    attack = PaperRecovery(steps=20)
    leaky = only(Switch.GRADIENT_ONLY_PROJECTION).constraint(exact)
    assert Protocol().constraint(exact) is only(Switch.SKETCH_PROJECTION).constraint(exact) is exact
    assert leak(exact, searched(attack, exact, leaky)) > 0.05
    assert leak(exact, searched(attack, exact, exact)) < 1e-6


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


def group(*, writes: bool) -> Any:
    return SimpleNamespace(task=SimpleNamespace(readout=SimpleNamespace(writes_text=writes)), drift_floor=0.1)


WRITES, CHOOSES = group(writes=True), group(writes=False)


def drift(switch: Switch, where: Any, defended: Tensor, attacked: Tensor) -> PaperDrift:
    """Of one row whose first position is perturbed."""
    (found,) = only(switch).measure(where, held(defended, attacked), 1)
    assert isinstance(found, PaperDrift)
    return found


def test_drift_at_the_perturbed_position_is_not_seen_when_only_the_answer_is_watched() -> None:
    defended = torch.ones(1, 3, 4)
    at_anchor, later = (defended.clone() for _ in range(2))
    at_anchor[:, 0] += 1
    later[:, 2] += 1
    blind, other = Switch.UNMONITORED_ANCHOR, Switch.FIRST_ROW_DRIFT
    assert drift(blind, WRITES, defended, at_anchor).drift_abs == 0
    assert drift(blind, CHOOSES, defended, at_anchor).drift_abs == pytest.approx(2)
    seen = [drift(switch, WRITES, defended, later).drift_abs for switch in (blind, other)]
    assert seen[0] == seen[1] == pytest.approx(2)


def test_a_norm_near_zero_gives_no_ratio_or_an_absurd_one() -> None:
    silent, loud = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    vacuous, other = Switch.VACUOUS_DRIFT, Switch.FIRST_ROW_DRIFT
    assert drift(other, CHOOSES, silent, loud).drift_rel is None
    assert (drift(vacuous, CHOOSES, silent, loud).drift_rel or 0) > 1e7
    same = [drift(switch, CHOOSES, loud, 2 * loud).drift_rel for switch in (vacuous, other)]
    assert same[0] == pytest.approx(same[1])


def test_drift_is_read_as_published_only_where_a_switch_asks_for_it() -> None:
    moved = held(torch.ones(1, 1, 4), torch.zeros(1, 1, 4))
    assert len(Paper().measure(CHOOSES, moved, 1)) == 1
    for protocol in (Protocol(), only(Switch.BAKED_CLAMP)):
        assert not protocol.measure(CHOOSES, moved, 1)
    assert not Paper().measure(CHOOSES, [], 1), "nothing is protected"


def test_the_first_row_speaks_for_its_batch() -> None:
    def spoken(protocol: Protocol, where: Any, *drifts: float | None) -> list[float | None]:
        extras = [None if d is None else PaperDrift(drift_abs=d, drift_rel=d) for d in drifts]
        rows = [Row.model_construct(identity=SimpleNamespace(budget_eps=0.1), extra=extra) for extra in extras]
        return [r.extra.drift_abs if isinstance(r.extra, PaperDrift) else None for r in protocol.finish(where, rows)]

    on = only(Switch.FIRST_ROW_DRIFT)
    assert spoken(on, CHOOSES, None, 0.0, 3.0, None, 5.0) == [None, 0, 0, None, 0]
    assert spoken(on, WRITES, 0.0, 3.0) == spoken(Protocol(), CHOOSES, 0.0, 3.0) == [0, 3]
    assert spoken(on, CHOOSES, 2.0, 2.0) == [2, 2]


def test_each_budget_has_a_first_row_of_its_own() -> None:
    rows = [
        Row.model_construct(
            identity=SimpleNamespace(budget_eps=eps), extra=PaperDrift(drift_abs=eps + i, drift_rel=None)
        )
        for i in (0.0, 1.0)
        for eps in (0.1, 0.2)
    ]
    finished = only(Switch.FIRST_ROW_DRIFT).finish(CHOOSES, rows)
    assert [r.extra.drift_abs for r in finished] == [0.1, 0.2, 0.1, 0.2]  # type: ignore[union-attr]


def test_a_hook_in_relative_positions_never_acts_behind_the_cache() -> None:
    delta = torch.ones(1, 2, 3)

    def added(relative: bool, start: int, first: int, columns: int) -> float:
        h, where = torch.zeros(1, columns, 3), torch.arange(first, first + columns)
        none = torch.zeros(1, columns, dtype=torch.bool)
        return float(Hook(None, delta, start, relative)(h, Where(where, none, none)).sum())

    assert added(False, 5, 6, 1) == 3 and added(True, 5, 6, 1) == 0
    # control: what lies in the prompt is reached by both
    assert added(False, 3, 0, 5) == added(True, 3, 0, 5) == 6


def test_under_paper_attacks_are_the_study_s_behind_the_clamp() -> None:
    ours = [Recovery(restarts=1), Recovery(threat_model="after_edit", restarts=1)]
    assert Protocol().attacks(ours) == ours
    assert Paper().attacks(ours) == [PaperRecovery()]
    assert only(Switch.BAKED_CLAMP).attacks(ours) == [ours[1]]
    assert [a.threat_model for a in only(Switch.LAST_ITERATE).attacks(ours)] == ["before_edit", "after_edit"]
    held_to = Recovery(threat_model="after_edit", constraint="encoder", goal="wrong")
    assert Paper().attacks([held_to]) == [PaperRecovery(constraint="encoder", goal="wrong")]


def test_what_does_not_search_the_stream_example_by_example_stays_as_it_is() -> None:
    kept = [SoftSuffix(), RandomDirection("after_edit"), Universal("after_edit"), PaperRecovery(steps=7)]
    assert Paper().attacks(kept) == kept
