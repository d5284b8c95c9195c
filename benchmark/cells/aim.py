"""Where a cell's attacker writes into a pack, what constrains it, and what a budget of eps = 1 is there."""

from __future__ import annotations

from typing import NamedTuple

from benchmark.cells.group import Group
from benchmark.contracts import Attack, Batch, Probe, ThreatModel
from benchmark.model.pack import Pack
from benchmark.model.passes import Writes
from benchmark.search.constraint import Constraint, EncoderNullSpace, Free
from benchmark.sites import Site

TOLERANCE = 0.03
"""Largest relative drift under the constraint ``jacobian``, as in the study, where the suite's own tau is not less."""


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
    tolerance: float | None = None
    """Largest relative drift of the protected activations that a perturbation may cause; None: ``constraint`` says it
    all."""


def aim(group: Group, attack: Attack, pack: Pack) -> Aim:
    """The defended sites at the last prompt positions, or a suffix's embeddings."""
    index = [group.place[e.id] for e in pack.examples]
    batch = pack.judged_by(group.ceiling[index], attack.goal, group.wrong[index])
    if attack.threat_model == ThreatModel.TOKEN_SUFFIX:
        nothing = Writes((0,), min(pack.suffix_at, pack.readout), 0, after=False)  # the text itself is another one
        return Aim(pack, pack, nothing, Free(), 1.0, batch)
    room, writes = vectors(group, attack.threat_model, pack)
    if attack.threat_model == ThreatModel.SOFT_SUFFIX:
        return Aim(pack, room, writes, Free(), group.scale.suffix_unit(writes.width), batch)
    tolerance = min(group.tau, TOLERANCE) if attack.constraint == "jacobian" else None
    return Aim(pack, room, writes, _constraint(group, attack), group.scale.unit(writes), batch, tolerance)


def vectors(group: Group, model: ThreatModel, pack: Pack) -> tuple[Pack, Writes]:
    """The pack, with room for a suffix where there is one, and where an attacker of vectors writes into it."""
    if model == ThreatModel.SOFT_SUFFIX:
        tokens = group.suffix_tokens
        return pack.with_suffix(tokens), Writes((0,), pack.suffix_at, tokens, after=False)
    ordinary = int((~pack.where.special[0, : pack.readout + 1]).sum())
    width = ordinary if group.perturbed == "all" else min(group.perturbed, ordinary)
    return pack, Writes(group.sites, pack.readout + 1 - width, width, model == ThreatModel.AFTER_EDIT)


def _constraint(group: Group, attack: Attack) -> Constraint:
    if attack.constraint != "encoder":
        return Free()
    return EncoderNullSpace([group.protected_at([b]) for b in group.sites], group.subject.d_model)


def cannot(group: Group, attack: Attack) -> str | None:
    """Why an attack does not apply to the group's defense; None: it does."""
    held = {"encoder": group.protected_at(group.sites), "jacobian": group.protected_from(min(group.sites))}
    if not held.get(attack.constraint, True):
        return f"the defense protects no features there: the constraint {attack.constraint} has nothing to hold"
    probe = group.task.readout
    if isinstance(probe, Probe):
        if attack.threat_model in (ThreatModel.SOFT_SUFFIX, ThreatModel.TOKEN_SUFFIX):
            return "a probe reads the prompt's own positions: a suffix has no place among them"
        if is_below(group):
            return f"the probe reads {probe.site}, below every defended site: nothing that is written reaches it"
    return None


def is_below(group: Group) -> bool:
    """Whether the task reads the stream below every defended site, where nothing that is written comes by."""
    probe = group.task.readout
    return isinstance(probe, Probe) and Site.parse(probe.site).boundary < min(group.sites)
