"""A defense trained against recovery withstands more of it than the same defense trained against nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attacks.ascent import Ascent
from attacks.recovery import Recovery
from benchmark.run.cell import run_cell
from benchmark.run.plan import Cell
from benchmark.search.pack_size import PackSize
from tests.defenses.organism import defended, shares, undefended
from tests.defenses.recovery_trained import RecoveryTrained

BUDGETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


def recovered(recipe: RecoveryTrained, threat: str) -> dict[float, float]:
    """Share of the suppressed `test` examples that recovery brings back at each budget."""
    few = undefended("ioi", sample=48, test=40)
    group = defended(few, recipe)
    suppressed, kept = shares(few, group)
    assert suppressed >= 0.4 and kept >= 0.95, "two names are left to chance: half of the answers"
    attack = Recovery(threat, restarts=1, ascent=Ascent(steps=10))
    rows = run_cell(group, Cell("", "ioi", "recipe", attack, BUDGETS), PackSize(256)).rows
    hits = [(row.identity.budget_eps, row.outcome.recovered) for row in rows if row.outcome.suppressed]
    return {b: sum(bool(hit) for eps, hit in hits if eps == b) * len(BUDGETS) / len(hits) for b in BUDGETS}


@pytest.mark.parametrize("threat", ["before_edit", "after_edit"])
def test_training_against_recovery_makes_it_cost_more_on_examples_that_were_never_seen(threat: str) -> None:
    hard, plain = (recovered(replace(RecoveryTrained(), threat=threat, ascent=n), threat) for n in (3, 0))
    print(threat, hard, plain)
    assert plain[0.8] > 0.9
