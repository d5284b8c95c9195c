"""Pairs about constraints: what a projection of gradients leaves, and what counts as a recovery under one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.audit.reading import Reading, mean
from benchmark.audit.workbench import (
    FEW,
    ROWS,
    SEED,
    STEPS,
    Found,
    Workbench,
    attack,
    measured,
    packs,
    search,
    setting,
    under,
    with_answer,
)
from benchmark.cells.aim import aim
from benchmark.cells.group import Group
from benchmark.cells.residual import make_problem
from benchmark.contracts import Attack
from benchmark.model.pack import Pack
from benchmark.paper.leaky import sketch, without
from benchmark.protocol import Switch
from benchmark.sae.features import FeatureSet
from benchmark.search.constraint import EncoderNullSpace
from benchmark.search.cross_layer import CrossLayer, Look
from benchmark.search.jacobian import row_space, weighted_rows
from benchmark.search.pack_size import PackSize


def gradient_only(bench: Workbench) -> list[Reading]:
    """The same Adam search with the exact constraint, and with the ridge projection of its gradient."""
    switch, group, eps = Switch.GRADIENT_ONLY_PROJECTION, bench.choices, bench.top(bench.choices)
    tried = attack("paper-recovery", constraint="encoder", steps=STEPS)
    strict, paper = (search(g, tried, eps) for g in (group, under(switch, group)))
    where = setting(group, "Adam with the constraint encoder", eps)
    n = sum(len(delta) for _, delta in strict)
    inside = [float(inside_span(group.protected_at(group.sites), found).mean()) for found in (strict, paper)]
    rows = [measured(group, found) for found in (strict, paper)]
    drift, pre, recovered = (
        [mean([r[name] for r in part]) for part in rows] for name in ("drift_abs", "drift_pre_abs", "recovered")
    )
    return [
        Reading.of(switch, "perturbation inside the protected span", "share of its norm", inside, n, where),
        Reading.of(switch, "drift of the protected pre-activations", "L2", pre, n, where),
        Reading.of(switch, "drift of the protected activations", "L2", drift, n, where),
        Reading.of(switch, "recovered", "share", recovered, n, where),
    ]


def inside_span(protected: Sequence[FeatureSet], found: Sequence[Found]) -> Tensor:
    """(examples,): share of each perturbation's norm inside the span of the protected directions of its one site."""
    delta = torch.cat([delta for _, delta in found])
    exact = EncoderNullSpace([protected], delta.shape[-1])
    inside = (delta - exact.project(delta)).flatten(1).norm(dim=1)
    return inside / delta.flatten(1).norm(dim=1).clamp(min=1e-30)


def sketched(bench: Workbench) -> list[Reading]:
    """Nine vectors against the exact row space, where the answer's positions are perturbed and monitored too."""
    switch, group, eps = Switch.SKETCH_PROJECTION, bench.some_text, bench.middle(bench.text)
    tried = attack("paper-recovery", constraint="jacobian", steps=FEW)
    where = setting(group, "constraint jacobian, answer perturbed too", eps)
    left = torch.cat([_at_the_start(group, pack, tried, eps) for pack in packs(group)]).mean(0).tolist()
    exact = search(group, tried, eps, answer=True)
    rows = [measured(group, found) for found in (exact, bench.sketched)]
    drift = [mean([r["drift_rel"] for r in part if r["drift_rel"] is not None]) for part in rows]
    return [
        Reading.of(switch, "row-space energy that the projected gradient keeps", "share", left, len(rows[0]), where),
        Reading.of(switch, "relative drift of the protected activations", "share", drift, len(rows[0]), where),
    ]


def infeasible(bench: Workbench) -> list[Reading]:
    """The same sketched perturbations: recoveries with their constraint, and recoveries."""
    switch, group = Switch.INFEASIBLE_COUNTS, bench.some_text
    where = setting(group, "constraint jacobian, sketched, answer perturbed too", bench.top(group))
    strict, paper = ([r["recovered"] for r in measured(g, bench.sketched_far)] for g in (group, under(switch, group)))
    return [Reading.of(switch, "recovered", "share", [mean(strict), mean(paper)], len(strict), where)]


def _at_the_start(group: Group, pack: Pack, tried: Attack, eps: float) -> Tensor:
    """``energies`` of the objective's gradient at no perturbation, (examples, 2)."""
    target = with_answer(group, aim(group, tried, pack))
    problem = make_problem(group, tried, [eps], SEED, target, PackSize(ROWS))
    assert isinstance(problem.constraint, CrossLayer)
    start = problem.zeros()
    return energies(problem.constraint.look, start, problem.slope(start).gradient.flatten(1))


def energies(look: Look, delta: Tensor, gradient: Tensor) -> Tensor:
    """(rows, 2): share of the row-space energy of ``gradient`` (rows, n) at ``delta`` that is left by the exact
    projection and by the sketched one."""
    rows, at = torch.arange(len(delta), device=delta.device), delta.detach().requires_grad_()
    values = look(at, rows).pre
    every = torch.eye(values.shape[1], device=delta.device)
    exact = row_space(every, weighted_rows(values, at, every))
    basis = sketch(look, delta, rows, torch.zeros_like(values).double(), seed=0)
    own, kept = exact.without(gradient), [exact.without(gradient), without(gradient, basis)]
    energy = (gradient.double() - own).square().sum(1).clamp(min=1e-300)
    return torch.stack([(v - exact.without(v)).square().sum(1) / energy for v in kept], 1)
