"""Every attack names what it must beat: the same access, and no search."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attacks.gcg import Gcg
from attacks.random_direction import RandomDirection
from attacks.random_suffix import RandomSuffix
from attacks.recovery import Recovery
from attacks.soft_suffix import SoftSuffix
from attacks.universal import Universal
from attacks.zero import Zero
from benchmark.contracts.attack import Attack
from tests.attacks import linear, typed


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (Recovery(), {RandomDirection, Zero}),
        (Recovery("after_edit", "encoder"), {RandomDirection, Zero}),
        (Universal("after_edit", "encoder"), {RandomDirection, Zero}),
        (Gcg(), {RandomSuffix, Zero}),
        (SoftSuffix(), set()),
    ],
)
def test_controls_have_the_access_of_their_attack_and_do_not_search(attack: Attack, expected: set[type]) -> None:
    controls = attack.controls()
    assert attack.searches and {type(control) for control in controls} == expected
    for control in controls:
        assert control.threat_model == attack.threat_model and control.is_control and not control.searches
        assert isinstance(control, Zero) or control.constraint == attack.constraint
    assert replace(attack, goal="wrong").is_control and not attack.is_control


def test_zero_changes_nothing_whatever_may_be_written_and_needs_no_budget() -> None:
    for made in (linear.make([0.5, 1.0]), typed.make(2)):
        proposal = Zero().run(made.problem).proposal
        assert torch.equal(proposal, made.problem.nothing())
        assert not made.problem.evaluate(proposal).reached.any()
    assert Zero().budgets((0.5, 1.0)) == (0.0,) and Recovery().budgets((0.5, 1.0)) == (0.5, 1.0)
