"""What a cell found, measured once more on the live defended model: one clean pass a perturbation, and no search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from benchmark.measure.group import Group
from benchmark.measure.remeasure import Measured
from benchmark.model.pack import Pack, make_packs
from benchmark.names import public_id
from benchmark.registry import threat
from benchmark.run.plan import Cell
from benchmark.search.pack_size import PackSize

Sites = Mapping[str, Sequence[tuple[str, ...] | None]]
"""By public id of an example, and by budget hook names of the sites that were written to; None: no stream was."""


def replay_cell(
    group: Group, cell: Cell, proposals: Mapping[str, Tensor], sites: Sites, pack_size: PackSize
) -> dict[str, list[Measured | None]]:
    """By public id of an example, what each of its perturbations does.

    Args:
        proposals: public id of an example -> (budgets, ...), as the cell left them; of what is suppressed here.

    Raises:
        ValueError: a perturbation is not of the shape that the threat model writes.
    """
    examples = [example for example in group.examples if public_id(example.id) in proposals]
    size = max(1, 4 * pack_size.rows // len(cell.budgets))
    found: dict[str, list[Measured | None]] = {}
    for pack in make_packs(group.subject, group.task, examples, size, cell.attack.goal):
        found |= _replayed(group, cell, pack, proposals, sites, pack_size)
    return found


def _replayed(
    group: Group, cell: Cell, pack: Pack, proposals: Mapping[str, Tensor], sites: Sites, pack_size: PackSize
) -> dict[str, list[Measured | None]]:
    names = [public_id(example.id) for example in pack.examples]
    written = [proposals[name] for name in names]
    if len({tuple(one.shape) for one in written}) > 1 or any(len(one) != len(cell.budgets) for one in written):
        raise ValueError(f"perturbations of {cell.attack.title} are not of one shape a budget")
    measured = threat(cell.attack.threat_model).replay(
        group, cell.attack, pack, torch.stack(written), [sites[name] for name in names], pack_size
    )
    return dict(zip(names, measured, strict=True))
