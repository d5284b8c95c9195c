"""Pairs about constraints: what a projection of gradients leaves, and what counts as a recovery under one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.contracts.attack import Attack
from benchmark.contracts.defense import Latents
from benchmark.measure.group import Group
from benchmark.model.pack import Pack
from benchmark.published.audit.drift import drifts
from benchmark.published.audit.reading import Reading, means
from benchmark.published.audit.workbench import (
    FEW,
    ROWS,
    SEED,
    STEPS,
    Aimed,
    Workbench,
    measured,
    packs,
    search,
    setting,
    under,
    with_answer,
)
from benchmark.published.leaky import sketch, without
from benchmark.published.recovery import PaperRecovery
from benchmark.published.switches import Switch
from benchmark.search.constraint import EncoderNullSpace
from benchmark.search.cross_layer import CrossLayer, Look
from benchmark.search.jacobian import row_space, weighted_rows
from benchmark.search.pack_size import PackSize
from benchmark.threats.after_edit import AfterEdit
from benchmark.threats.problems import make_problem


def gradient_only(bench: Workbench) -> list[Reading]:
    """The same Adam search with the exact constraint, and with the ridge projection of its gradient."""
    switch, group, eps = Switch.GRADIENT_ONLY_PROJECTION, bench.choices, bench.top(bench.choices)
    tried = PaperRecovery(constraint="encoder", steps=STEPS)
    strict, paper = (search(g, tried, eps) for g in (group, under(switch, group)))
    where = setting(group, "Adam with the constraint encoder", eps)
    n = sum(len(delta) for _, delta in strict)
    inside = [float(inside_span(group.protected_at(group.sites), found).mean()) for found in (strict, paper)]
    rows = [measured(group, found) for found in (strict, paper)]
    pre, moved = (
        [[getattr(d, name) for d in drifts(part)] for part in rows] for name in ("drift_pre_abs", "drift_abs")
    )
    recovered = [[m.recovered for m in part] for part in rows]
    return [
        Reading.of(switch, "perturbation inside the protected span", "share of its norm", inside, n, where),
        Reading.of(switch, "drift of the protected pre-activations", "L2", means(pre), n, where),
        Reading.of(switch, "drift of the protected activations", "L2", means(moved), n, where),
        Reading.of(switch, "recovered", "share", means(recovered), n, where),
    ]


def inside_span(protected: Sequence[Latents], found: Sequence[Aimed]) -> Tensor:
    """(examples,): share of each perturbation's norm inside the span of the protected directions of its one site."""
    delta = torch.cat([delta for _, delta in found])
    exact = EncoderNullSpace([protected], delta.shape[-1])
    inside = (delta - exact.project(delta)).flatten(1).norm(dim=1)
    return inside / delta.flatten(1).norm(dim=1).clamp(min=1e-30)


def sketched(bench: Workbench) -> list[Reading]:
    """Nine vectors against the exact row space, where the answer's positions are perturbed and monitored too."""
    switch, group, eps = Switch.SKETCH_PROJECTION, bench.some_text, bench.middle(bench.text)
    tried = PaperRecovery(constraint="jacobian", steps=FEW)
    where = setting(group, "constraint jacobian, answer perturbed too", eps)
    left = torch.cat([_at_the_start(group, pack, tried, eps) for pack in packs(group)]).mean(0).tolist()
    exact = search(group, tried, eps, answer=True)
    rows = [measured(group, found) for found in (exact, bench.sketched)]
    drift = [[d.drift_rel for d in drifts(part) if d.drift_rel is not None] for part in rows]
    return [
        Reading.of(switch, "row-space energy that the projected gradient keeps", "share", left, len(rows[0]), where),
        Reading.of(switch, "relative drift of the protected activations", "share", means(drift), len(rows[0]), where),
    ]


def infeasible(bench: Workbench) -> list[Reading]:
    """The same sketched perturbations: recoveries with their constraint, and recoveries."""
    switch, group = Switch.INFEASIBLE_COUNTS, bench.some_text
    where = setting(group, "constraint jacobian, sketched, answer perturbed too", bench.top(group))
    sides = [[m.recovered for m in measured(g, bench.sketched_far)] for g in (group, under(switch, group))]
    return [Reading.of(switch, "recovered", "share", means(sides), len(sides[0]), where)]


def _at_the_start(group: Group, pack: Pack, tried: Attack, eps: float) -> Tensor:
    """``energies`` of the objective's gradient at no perturbation, (examples, 2)."""
    target = with_answer(group, AfterEdit().aim(group, tried.constraint, tried.goal, pack))
    problem = make_problem(group, target, tried.terms(SEED), [eps], PackSize(ROWS))
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
