"""What became of each example: its last outcome, and what an attack needed for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from leaderboard.rows.arrays import real, text, where
from leaderboard.rows.selection import first_successes, ranked
from leaderboard.scores.outcomes import relative_drift
from leaderboard.scores.values import Strict

Outcome = Literal["not_eligible", "never_suppressed", "not_run", "failed", "held", "degenerate", "recovered"]
"""not_eligible: the undefended model does not show the behavior; not_run: the attack does not apply."""
ORDER: tuple[Outcome, ...] = get_args(Outcome)
"""From what says nothing of an attack to what is worst for the defense."""
NAMED: dict[str, Outcome] = {one: one for one in ORDER}


class ExampleOutcome(Strict):
    """What one attack did to one example."""

    outcome: Outcome
    """recovered: at any ranked budget, as in the curves; else what it was at the largest one."""
    eps_star: float | None
    """Smallest ranked budget at which it was recovered, in the unit of the threat model; null: at none."""
    drift: float | None
    """Relative drift at that budget, or else at the largest ranked one; null: not known."""
    margin: float | None
    """Of the goal under attack, there too, the largest over seeds; null: it has none."""


def final_outcomes(rows: pa.Table) -> dict[str, str]:
    """Of each eligible example what it was at the largest ranked budget, the worst over seeds; empty: not attacked."""
    largest = _at_largest(rows)
    said = np.where(text(largest, "status") == "error", "failed", text(largest, "outcome"))
    found = list(zip(text(largest, "example_id"), said, strict=True))
    by_example = {str(example): "" for example, _ in found}
    for outcome in ("failed", "never_suppressed", "held", "degenerate", "recovered"):
        by_example.update({str(example): outcome for example, said in found if said == outcome})
    return by_example


def example_outcomes(rows: pa.Table) -> dict[str, ExampleOutcome]:
    """What the rows of one attack say of every example that they name, by id."""
    final = final_outcomes(rows)
    found = {
        str(example): ExampleOutcome(outcome=_known(final.get(str(example))), eps_star=None, drift=None, margin=None)
        for example in np.unique(text(rows, "example_id"))
    }
    for example, _, drift, margin in _measured(_at_largest(rows)):
        found[example] = found[example].model_copy(update={"drift": drift, "margin": margin})
    for example, eps, drift, margin in _measured(first_successes(rows)):
        found[example] = ExampleOutcome(outcome="recovered", eps_star=eps, drift=drift, margin=margin)
    return found


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Of several attacks on one example, at least one."""
    return ORDER[max(ORDER.index(one) for one in outcomes)]


def _at_largest(rows: pa.Table) -> pa.Table:
    kept = ranked(rows)
    return where(kept, real(kept, "budget_eps") == real(kept, "budget_eps").max(initial=-np.inf))


def _known(outcome: str | None) -> Outcome:
    if outcome is None:
        return "not_eligible"
    return NAMED.get(outcome, "not_run")


def _measured(rows: pa.Table) -> Iterator[tuple[str, float, float | None, float | None]]:
    """Example, budget, relative drift and margin, the largest margin of an example last."""
    named, budget, drift = text(rows, "example_id"), real(rows, "budget_eps"), relative_drift(rows)
    margin = real(rows, "margin_attacked")
    for place in np.argsort(np.nan_to_num(margin, nan=-np.inf), kind="stable"):
        yield str(named[place]), float(budget[place]), _number(float(drift[place])), _number(float(margin[place]))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
