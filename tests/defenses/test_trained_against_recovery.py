"""A defense trained against recovery withstands more of it than the same defense trained against nobody."""

from __future__ import annotations

from attacks.minimum_norm import MinimumNorm
from attacks.recovery import Recovery
from benchmark.measure.group import Group
from benchmark.run.cell import run_cell
from benchmark.run.plan import Cell
from benchmark.search.pack_size import PackSize
from tests.defenses.organism import defended, shares, undefended
from tests.defenses.recovery_trained import RecoveryTrained

BUDGETS = (0.05, 0.1, 0.2, 0.4)


def recovered(group: Group, threat: str) -> float:
    """Share of suppressed `test` examples that recovery brings back, the mean over budgets."""
    attack = Recovery(threat, restarts=1, search=MinimumNorm(steps=10))
    rows = run_cell(group, Cell("", "ioi", "recipe", attack, BUDGETS), PackSize(256)).rows
    hits = [bool(row.outcome.recovered) for row in rows if row.outcome.suppressed]
    return sum(hits) / len(hits)


def test_recovery_costs_more_on_unseen_examples_also_behind_the_edit_where_it_was_not_trained() -> None:
    few = undefended("ioi", sample=32, test=60)
    trained, plain = (defended(few, RecoveryTrained(ascent=steps)) for steps in (2, 0))
    for group in (trained, plain):
        suppressed, kept = shares(few, group)
        assert suppressed >= 0.4, "two names are left to chance: half of the answers"
        assert kept >= 0.9
    assert recovered(trained, "before_edit") < recovered(plain, "before_edit") - 0.08
    assert recovered(trained, "after_edit") < recovered(plain, "after_edit") - 0.1
