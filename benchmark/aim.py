"""Where a cell's attacker writes into a pack, what constrains it, and what a budget of eps = 1 is there."""

from __future__ import annotations

from typing import NamedTuple

from benchmark.constraint import Constraint, EncoderNullSpace, Free
from benchmark.contracts import Attack, Batch, ThreatModel
from benchmark.group import Group
from benchmark.pack import Pack
from benchmark.passes import Writes


class Aim(NamedTuple):
    """An attack aimed at a pack."""

    plain: Pack
    """The prompts as they are."""
    pack: Pack
    """The same, with room for a suffix where there is one."""
    writes: Writes
    constraint: Constraint
    unit: float
    """L2 norm of eps = 1."""
    batch: Batch
    """What the task judges by, with the attack's goal."""


def aim(group: Group, attack: Attack, pack: Pack) -> Aim:
    """The defended sites at the last prompt positions, or a suffix's embeddings."""
    index = [group.place[e.id] for e in pack.examples]
    batch = pack.judged_by(group.ceiling[index], attack.goal, group.wrong[index])
    if attack.threat_model == ThreatModel.SOFT_SUFFIX:
        tokens = group.suffix_tokens
        writes = Writes((0,), pack.suffix_at, tokens, after=False)
        return Aim(pack, pack.with_suffix(tokens), writes, Free(), group.scale.suffix_unit(tokens), batch)
    ordinary = int((~pack.where.special[0, : pack.readout + 1]).sum())
    width = ordinary if group.perturbed == "all" else min(group.perturbed, ordinary)
    after = attack.threat_model == ThreatModel.AFTER_EDIT
    writes = Writes(group.sites, pack.readout + 1 - width, width, after)
    return Aim(pack, pack, writes, _constraint(group, attack), group.scale.unit(writes), batch)


def _constraint(group: Group, attack: Attack) -> Constraint:
    if attack.constraint == "none":
        return Free()
    return EncoderNullSpace([group.protected_at([b]) for b in group.sites], group.subject.d_model)


def cannot(group: Group, attack: Attack) -> str | None:
    """Why an attack does not apply to the group's defense; None: it does."""
    if attack.constraint == "encoder" and not group.protected_at(group.sites):
        return "the defense protects no features at the attacked site: there is nothing for the constraint to hold"
    return None
