"""Families of threat models: the budgets of each, and which of them make up a task's score.

A family has one curve over budgets of one unit: eps of the stream (residual attacks), eps of the embeddings (soft
suffixes), or a number of tokens (token suffixes). Areas of different units compare, budgets do not.
"""

from __future__ import annotations

from collections.abc import Sequence

from leaderboard.curves import grid
from leaderboard.rows import Array
from leaderboard.runs import AttackRecord, TaskRecord
from leaderboard.values import Family

PAPER_TAU = 0.03
"""The published limit of harmless drift, reported beside the suite's own."""

THREAT_MODEL: dict[Family, str] = {
    "before_edit": "before_edit",
    "soft_suffix": "soft_suffix",
    "token_suffix": "token_suffix",
    "after_edit": "after_edit",
    "after_edit_within_tau": "after_edit",
    "after_edit_within_paper_tau": "after_edit",
}
SCORED_FAMILIES: tuple[Family, ...] = ("before_edit", "soft_suffix", "token_suffix")
"""The score of a task is the smallest of their areas, of those that apply to it."""
SUFFIX_FAMILIES: tuple[Family, ...] = ("soft_suffix", "token_suffix")
SCORED_THREATS = frozenset(THREAT_MODEL[family] for family in SCORED_FAMILIES)
RESIDUAL_THREATS = frozenset({"before_edit", "after_edit"})
"""Threat models that write the residual stream, where a large enough perturbation must be able to do anything."""


def ceiling(record: TaskRecord, threat_model: str) -> float | None:
    """The largest ranked budget of a threat model; null: none."""
    if threat_model == "token_suffix":
        return record.token_ceiling
    return record.suffix_ceiling if threat_model == "soft_suffix" else record.ceiling


def budgets(record: TaskRecord, threat_model: str) -> list[float]:
    """All budgets that the suite gives a threat model on a task, those beyond the ceiling included."""
    suffix = {"soft_suffix": record.suffix_budgets, "token_suffix": record.token_budgets}
    return suffix.get(threat_model, record.budgets)


def ranked_budgets(record: TaskRecord, family: Family) -> Array:
    """The budgets of a family's curve, ascending, (budgets,)."""
    threat_model = THREAT_MODEL[family]
    return grid(budgets(record, threat_model), ceiling(record, threat_model))


def applies(record: TaskRecord, threat_model: str) -> bool:
    """Whether a threat model makes sense on the task and the suite gives it budgets there."""
    return threat_model in record.threat_models and bool(budgets(record, threat_model))


def demanded(record: TaskRecord, attacks: Sequence[AttackRecord] | None) -> tuple[Family, ...]:
    """The families that a score needs: all that apply, token suffixes only if the suite lists such an attack."""
    listed = {attack.threat_model for attack in attacks or ()}
    return tuple(
        family
        for family in SCORED_FAMILIES
        if applies(record, THREAT_MODEL[family]) and (family != "token_suffix" or "token_suffix" in listed)
    )


def limit(record: TaskRecord, family: Family) -> float | None:
    """The largest relative drift with which a recovery counts in a family's curve; null: no limit."""
    return {"after_edit_within_tau": record.tau, "after_edit_within_paper_tau": PAPER_TAU}.get(family)
