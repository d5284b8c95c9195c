"""Groups of the toy world, prepared for attack, and what is asked of their cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attacks.minimum_norm import MinimumNorm
from attacks.random_direction import RandomDirection
from attacks.recovery import Recovery
from benchmark.contracts.attack import Attack, Attempt
from benchmark.contracts.defense import FittedDefense, Where
from benchmark.contracts.example import Example
from benchmark.contracts.task import Task
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group, Scale
from benchmark.measure.judging import Judged, eligible, judge, saturation
from benchmark.model.edits import by_boundary
from benchmark.model.pack import make_packs
from benchmark.model.streams import residual_norms
from benchmark.model.subject import Subject
from benchmark.registry import threat
from benchmark.run.cell import Measurement, run_cell
from benchmark.run.plan import Cell
from benchmark.sae.dictionary import open_dictionary
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from benchmark.sites import Site
from defenses.clamp_edit import ClampEdit
from tests import tiny
from tests.tiny import D_MODEL, LAYERS, SITE, ToyTask

HERE = Site.parse(SITE)
AT = HERE.boundary
BUDGETS = (0.2, 0.5, 1.0)
SEARCH = Recovery(restarts=1, search=MinimumNorm(steps=10))


class Far(Recovery):
    """Proposes what it found at the length of the budget."""

    def run(self, problem: Problem) -> Attempt:
        found = super().run(problem)
        return found._replace(proposal=problem.restore(1e3 * found.proposal))


WIDE = RandomDirection(restarts=4)
Rows = list[dict[str, Any]]


def toy_group(subject: Subject, task: Task, fitted: FittedDefense, **changes: Any) -> Group:
    """Every `test` example, attacked where the defense edits; norms are 1 unless given."""
    examples = task.examples("test")
    base = judge(subject, task, examples, {})
    edits = by_boundary(subject, fitted.edits)
    settings: dict[str, Any] = {
        "sites": tuple(edits),
        "scale": Scale(dict.fromkeys(range(LAYERS + 1), 1.0), 1.0),
        "perturbed": 1,
        "suffix_tokens": 2,
        "tail": True,
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
        saturation=saturation(subject, task, examples),
        **settings,
    )


class Halve:
    """Weakens the stream wherever the defense does not spare it."""

    position_wise = True

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return torch.where(where.special[..., None], h, h * torch.linspace(-1, 1, h.shape[-1]))


def halved_group(subject: Subject, task: Task) -> Group:
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
    """Rows of the suppressed examples, in order, as columns, and the proposals."""
    done = measured(group, attack, budgets)
    found: Rows = [row.columns() for row in done.rows if row.outcome.suppressed]
    assert len(found) == len(done.proposals) * len(budgets) > 0
    return found, done.proposals


def measured(group: Group, attack: Attack, budgets: Sequence[float] = BUDGETS) -> Measurement:
    """The whole cell of an attack."""
    return run_cell(group, Cell("cell", group.task.name, "defense", attack, tuple(budgets)), PackSize(256))


def named(group: Group, row: dict[str, Any]) -> Example:
    return group.examples[group.place[str(row["example_id"])]]


def aimed(group: Group, attack: Attack, example: Example) -> Aim:
    (pack,) = make_packs(group.subject, group.task, [example], 1, attack.goal)
    return threat(attack.threat_model).aim(group, attack.constraint, attack.goal, pack)


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
        saturation=group.saturation[[i]],
    )


def far(rows: int, size: float) -> Tensor:
    """Perturbations of one position at one site."""
    drawn = torch.randn(rows, 1, 1, D_MODEL, generator=torch.Generator().manual_seed(9))
    return size * drawn / drawn.flatten(1).norm(dim=1)[:, None, None, None]
