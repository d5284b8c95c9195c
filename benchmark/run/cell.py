"""One cell: attack every suppressed example of a task under a defense at every budget, measure again, and make rows."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.attack import Attack
from benchmark.contracts.example import Example
from benchmark.contracts.row import TARGET_SHOWN, Identity, Row
from benchmark.measure.group import Group
from benchmark.measure.outcome import Attacked, Found, Left, make_rows
from benchmark.model.pack import Pack, halves, make_packs
from benchmark.names import public_id
from benchmark.registry import threat
from benchmark.run.plan import Cell
from benchmark.run.training import train, untrainable
from benchmark.search.pack_size import PackSize
from benchmark.threats.stream import unheld

NOTHING = Left("not_run", None)


class Measurement(NamedTuple):
    """What a cell left."""

    rows: list[Row]
    """Of every example at every budget, in the order of the group's examples."""
    proposals: dict[str, Tensor]
    """Public id of an attacked example -> (budgets, ...): perturbations, or token ids filled up with -1."""
    failures: list[str]
    """Tracebacks of an attack that failed on some of its packs."""


def run_cell(group: Group, cell: Cell, pack_size: PackSize, *, run_id: str = "") -> Measurement:
    """Rows of every example at every budget (eps), and the proposals for the attacked ones."""
    attack, attacked = cell.attack, group.attacked
    found: dict[str, Sequence[Attacked] | Left] = {}
    proposals: dict[str, Tensor] = {}
    failures: list[str] = []
    if why := _not_applicable(group, attack):
        found |= dict.fromkeys((e.id for e in attacked), Left("not_run", why))
        attacked = []
    else:
        found |= dict.fromkeys((e.id for e in attacked), Left("not_run", TARGET_SHOWN))
        attacked = group.aimed(attack.goal)
    for examples, result in _attacked(group, cell, attacked, pack_size, failures):
        for i, example in enumerate(examples):
            if isinstance(result, Left):
                found[example.id] = result
            else:
                found[example.id], proposals[public_id(example.id)] = result.attacked[i], result.proposals[i]
    rows = [
        row
        for i, e in enumerate(group.examples)
        for row in make_rows(group, i, _identities(group, cell, e, run_id), found.get(e.id, NOTHING))
    ]
    threads = torch.get_num_threads() if group.subject.device.type == "cpu" else None
    rows = [_by(row, threads) for row in group.protocol.finish(group, rows)]
    return Measurement(rows, proposals, failures)


def _by(row: Row, threads: int | None) -> Row:
    """The row with who worked on it."""
    if row.cost is None:
        return row
    return row.model_copy(update={"cost": row.cost.model_copy(update={"threads": threads})})


def _not_applicable(group: Group, attack: Attack) -> str | None:
    """Why an attack does not apply to the group's defense; None: it does."""
    return (
        unheld(group, attack.constraint)
        or threat(attack.threat_model).applies(group.task, group)
        or untrainable(group, attack)
    )


def _attacked(
    group: Group, cell: Cell, examples: list[Example], pack_size: PackSize, failures: list[str]
) -> list[tuple[Sequence[Example], Found | Left]]:
    """Pack by pack what was found; an attack that fails on a pack goes on with the next."""
    if not examples:
        return []
    attack = cell.attack
    try:
        trained = train(group, attack, cell.budgets, cell.seed, pack_size) if attack.learns else attack
    except Exception as error:
        return [(examples, _failed(error, failures))]
    size = max(1, 4 * pack_size.rows // (len(cell.budgets) * attack.restarts))
    found: list[tuple[Sequence[Example], Found | Left]] = []
    for packs in _side_by_side(make_packs(group.subject, group.task, examples, size, attack.goal), size):
        found += _tried(group, trained, cell, packs, pack_size, failures)
    return found


def _side_by_side(packs: Sequence[Pack], size: int) -> list[list[Pack]]:
    """Consecutive packs together, at most ``size`` examples."""
    batches, held = list[list[Pack]](), size
    for pack in packs:
        if held + len(pack) > size:
            batches.append([])
            held = 0
        batches[-1].append(pack)
        held += len(pack)
    return batches


def _tried(
    group: Group, attack: Attack, cell: Cell, packs: Sequence[Pack], pack_size: PackSize, failures: list[str]
) -> list[tuple[Sequence[Example], Found | Left]]:
    """What was found on each pack; where not all of them can be attacked together, they are one after the other."""
    try:
        found = _attack_packs(group, attack, cell, packs, pack_size)
    except Exception as error:
        if len(packs) == 1:
            return [(packs[0].examples, _failed(error, failures))]
        return [one for pack in packs for one in _tried(group, attack, cell, [pack], pack_size, failures)]
    return [(pack.examples, one) for pack, one in zip(packs, found, strict=True)]


def _failed(error: Exception, failures: list[str]) -> Left:
    failures.append("".join(traceback.format_exception(error)))
    return Left("error", f"{type(error).__name__}: {error}")


def _attack_packs(group: Group, attack: Attack, cell: Cell, packs: Sequence[Pack], pack_size: PackSize) -> list[Found]:
    """What was found on each pack; one whose caches do not fit into memory is taken in halves."""
    try:
        return threat(attack.threat_model).attack(group, attack, cell.budgets, cell.seed, packs, pack_size)
    except torch.OutOfMemoryError:
        if len(packs) > 1 or len(packs[0]) == 1:
            raise
    parts = [_attack_packs(group, attack, cell, [half], pack_size)[0] for half in halves(packs[0])]
    return [Found([rows for p in parts for rows in p.attacked], torch.cat([p.proposals for p in parts]))]


def _identities(group: Group, cell: Cell, example: Example, run_id: str) -> list[Identity]:
    return [
        Identity(
            run_id=run_id,
            cell_key=cell.key,
            task=group.task.name,
            example_id=public_id(example.id),
            cluster_id=public_id(example.cluster),
            defense=cell.defense,
            attack=cell.attack.title,
            threat_model=cell.attack.threat_model,
            constraint=cell.attack.constraint,
            goal=cell.attack.goal,
            seed=cell.seed,
            budget_eps=float(eps),
            sanity=eps in cell.sanity,
            split=cell.split,
        )
        for eps in cell.budgets
    ]
