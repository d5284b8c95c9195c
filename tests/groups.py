"""Groups of the toy world, prepared for attack, and what is asked of their cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attacks.ascent import Ascent
from attacks.random_direction import RandomDirection
from attacks.recovery import Recovery
from benchmark.cells.aim import Aim, aim
from benchmark.cells.cell import run_cell
from benchmark.cells.group import Group, Scale
from benchmark.cells.reference import Judged, ceilings, eligible, judge, residual_norms
from benchmark.contracts import Attack, Example, FittedDefense
from benchmark.model.edits import Where, by_boundary
from benchmark.model.packs import make_packs
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import open_dictionary
from benchmark.search.pack_size import PackSize
from benchmark.sites import Site
from defenses.clamp_edit import ClampEdit
from tests import tiny
from tests.tiny import D_MODEL, LAYERS, SITE, ToyTask

HERE = Site.parse(SITE)
AT = HERE.boundary
BUDGETS = (0.2, 0.5, 1.0)
SEARCH = Recovery(restarts=1, ascent=Ascent(steps=10))
WIDE = RandomDirection(restarts=4)
Rows = list[dict[str, Any]]


def toy_group(subject: Subject, task: ToyTask, fitted: FittedDefense, **changes: Any) -> Group:
    """Every `test` example, attacked where the defense edits; norms are 1 unless given."""
    examples = task.examples("test")
    base = judge(subject, task, examples, {})
    edits = by_boundary(subject, fitted.edits)
    settings: dict[str, Any] = {
        "sites": tuple(edits),
        "scale": Scale(dict.fromkeys(range(LAYERS + 1), 1.0), 1.0),
        "perturbed": 1,
        "suffix_tokens": 2,
        "restart": True,
        "tau": 1.0,
        **changes,
    }
    return Group(
        subject=subject,
        task=task,
        fitted=fitted,
        edits=edits,
        examples=examples,
        base=base,
        defended=settings.pop("defended", None) or judge(subject, task, examples, fitted.edits),
        eligible=eligible(subject, task, examples, base),
        ceiling=ceilings(subject, task, examples, base),
        **settings,
    )


class Halve:
    """Weakens the stream wherever the defense does not spare it."""

    position_wise = True

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return torch.where(where.special[..., None], h, h * torch.linspace(-1, 1, h.shape[-1]))


def halved_group(subject: Subject, task: ToyTask) -> Group:
    """The stream is weakened at one boundary, by a defense that defends no feature."""
    return toy_group(subject, task, FittedDefense({Site(2): Halve()}))


def clamped_group(folder: Path) -> Group:
    """Twelve clamped latents of a random SAE at one site, and recoveries that are split into parts."""
    subject, task = tiny.subject(saes={SITE: tiny.sae_folder(folder)}), ToyTask()
    features = open_dictionary(subject, HERE).features(range(12))
    fitted = FittedDefense({HERE: ClampEdit(features, "scale", torch.full((12,), -3.0))}, (features,))
    scale = Scale(residual_norms(subject, task, task.examples("fit")), 1.0)
    return toy_group(subject, task, fitted, scale=scale, attribution=True)


def cell(group: Group, attack: Attack, budgets: Sequence[float] = BUDGETS) -> tuple[Rows, dict[str, Tensor]]:
    """Rows of the suppressed examples, in order, and the perturbations."""
    rows, deltas = run_cell(group, attack, budgets, 0, PackSize(256))
    found: Rows = [row for row in rows if row["suppressed"]]
    assert len(found) == len(deltas) * len(budgets) > 0
    return found, deltas


def named(group: Group, row: dict[str, Any]) -> Example:
    return group.examples[group.place[str(row["example_id"])]]


def aimed(group: Group, attack: Attack, example: Example) -> Aim:
    (pack,) = make_packs(group.subject, group.task, [example], 1, attack.goal)
    return aim(group, attack, pack)


def alone(group: Group, i: int) -> Group:
    """The group with one example only."""

    def judged(whole: Judged) -> Judged:
        return Judged([whole.labels[i]], whole.margin[[i]], [whole.read[i]])

    return replace(
        group,
        examples=[group.examples[i]],
        base=judged(group.base),
        defended=judged(group.defended),
        eligible=group.eligible[[i]],
        ceiling=group.ceiling[[i]],
    )


def far(rows: int, size: float) -> Tensor:
    """Perturbations of one position at one site."""
    drawn = torch.randn(rows, 1, 1, D_MODEL, generator=torch.Generator().manual_seed(9))
    return size * drawn / drawn.flatten(1).norm(dim=1)[:, None, None, None]
