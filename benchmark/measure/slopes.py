"""Whether the gradients that a search was given are those of what is measured, and whoever asks gets the same answer.

An edit may have a backward of its own, and may look at who calls it. So points that the search itself met are looked at
again: by central differences, which need no gradient, and from another thread, by a full pass, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.row import Slopes
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.search.draws import generator, normal
from benchmark.search.oracle import aimed_at
from benchmark.search.path import Path, Point
from benchmark.search.problem import Problem

SAMPLED = 0.25
"""Share of the examples that are sampled, and one row of each says so."""
STEPS = {torch.float64: (1e-3, 1e-4), torch.float32: (1e-3, 1e-4)}
"""Lengths of half a difference, as shares of the budget's unit. Over the longer one rounding is below 1 %, and a ripple
shows; over the shorter one few jumps of an SAE lie."""
ROUGH = (5e-2,)
"""The same of other dtypes, which round so much more."""
LEAST, MOST, GAP, CALLER = 0.5, 5.0, 0.5, 0.1
"""What differs by less is rounding, kinks or jumps. The first two: along the search's own direction, where an SAE that
jumps rises faster than its gradient says, and a false gradient promises what is not there; then along random
directions, and by caller."""


class Sample(NamedTuple):
    """The examples of a problem that are looked at again."""

    path: Path
    rows: Mapping[int, int]
    """Example -> the row of the problem that says so, of those that were drawn; beside them one example is kept where
    there would be none, for the pack's own sake."""


def sample(problem: Problem, keys: Sequence[str]) -> Sample:
    """Examples by their key (one a key), so that one is sampled or not whatever its pack."""
    _, levels, restarts = problem.grid
    rows: dict[int, int] = {}
    for i, key in enumerate(keys):
        draws = generator(f"slopes|{key}")
        chosen = float(torch.rand(1, generator=draws)) < SAMPLED
        row = i * levels * restarts + int(torch.randint(levels * restarts, (1,), generator=draws))
        if chosen:
            rows[i] = row
    return Sample(Path({i: keys[i] for i in rows or (0,)}, problem.example), rows)


def look_again(group: Group, target: Aim, problem: Problem, path: Path) -> dict[int, Slopes]:
    """By example what became of the points of its path; those without any are left out.

    The search is not billed for it.
    """
    kept = path.kept
    points = [point for mine in kept.values() for point in mine]
    if not points:
        return {}
    own, random = _differences(group, target, problem.unbilled(), points)
    gaps = _by_another_caller(group, target, problem, [mine[0] for mine in kept.values()])
    found, done = {}, 0
    for (example, mine), gap in zip(kept.items(), gaps, strict=True):
        part = slice(done, done := done + len(mine))
        ratios = [difference / slope for slope, difference in own[part] if slope]
        found[example] = Slopes(
            slope_ratio=_median(ratios) if ratios else None, slope_gap=_median(random[part]), call_path_gap=gap
        )
    return found


def doubts(slopes: Slopes | None) -> tuple[str, ...]:
    """Codes of what is doubtful about a row that was sampled."""
    if slopes is None:
        return ()
    off = slopes.slope_ratio is None or not LEAST <= slopes.slope_ratio <= MOST or slopes.slope_gap > GAP
    raised = {"gradient-mismatch": off, "depends-on-caller": slopes.call_path_gap > CALLER}
    return tuple(code for code, on in raised.items() if on)


def mistrusted(found: Mapping[int, Slopes]) -> bool:
    """Whether most of the examples that were looked at were misled: one kink alone misleads nobody."""
    return 2 * sum("gradient-mismatch" in doubts(slopes) for slopes in found.values()) > len(found)


def _median(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).median())


def _gap(slope: float, difference: float) -> float:
    largest = max(abs(slope), abs(difference))
    return abs(slope - difference) / largest if largest else 0.0


def _differences(
    group: Group, target: Aim, problem: Problem, points: Sequence[Point]
) -> tuple[list[tuple[float, float]], list[float]]:
    """Of every point the slope and the central difference along its own gradient; and the gap between the two along a
    random direction, over the step at which they are closest."""
    at, gradient = (torch.stack(part) for part in ([p.delta for p in points], [p.gradient for p in points]))
    drawn = [normal(f"slope|{p.key}", tuple(p.delta.shape)) for p in points]
    own, random = _unit(gradient), _unit(torch.stack(drawn).to(at.device))
    halves = [share * target.unit for share in STEPS.get(group.subject.dtype, ROUGH)]
    rows = torch.tensor([point.row for point in points], device=problem.budget.device)

    def pairs(way: Tensor, half: float) -> list[tuple[float, float]]:
        around = problem.evaluate(torch.cat([at + half * way, at - half * way]), rows.repeat(2))
        ahead, behind = around.objective.double().chunk(2)
        slopes = (gradient * way).double().flatten(1).sum(1)
        return list(zip(slopes.tolist(), ((ahead - behind) / (2 * half)).tolist(), strict=True))

    gaps = [[_gap(*pair) for pair in pairs(random, half)] for half in halves]
    return pairs(own, halves[0]), [min(found) for found in zip(*gaps, strict=True)]


def _by_another_caller(group: Group, target: Aim, problem: Problem, points: Sequence[Point]) -> list[float]:
    """Of every point how far objective and gradient are from what the search was told there."""
    example = problem.example[[point.row for point in points]]

    def work() -> list[tuple[float, float, Tensor]]:
        told = reversed(list(enumerate(points)))
        return [_look(group, target, point.delta[None], example[[i]]) for i, point in told]

    answers = reversed(_elsewhere(work))
    return [_apart(point, answer, target.unit) for point, answer in zip(points, answers, strict=True)]


def _elsewhere(work: Callable[[], list[tuple[float, float, Tensor]]]) -> list[tuple[float, float, Tensor]]:
    """The result of ``work`` in a thread of its own: on its stack there is nothing of who asks."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _look(group: Group, target: Aim, delta: Tensor, example: Tensor) -> tuple[float, float, Tensor]:
    """The objective without gradients, and with them, and the gradient."""
    run, criteria = group.full_pass(target.pack, target.writes), target.criteria.rows(example)
    with torch.no_grad():
        quiet, _ = aimed_at(group.task, run(delta, example), criteria)
    at = delta.clone().requires_grad_()
    value, _ = aimed_at(group.task, run(at, example), criteria)
    (gradient,) = torch.autograd.grad(value.sum(), at)
    return float(quiet), float(value.detach()), gradient[0]


def _apart(point: Point, answer: tuple[float, float, Tensor], unit: float) -> float:
    """The largest relative difference: of the objective in terms of itself and of what a hundredth of a unit does."""
    size = float(point.gradient.norm())
    scale = abs(point.objective) + 0.01 * unit * size
    values = max(abs(value - point.objective) for value in answer[:2]) / scale if scale else 0.0
    largest = max(size, float(answer[2].norm()))
    return max(values, float((answer[2] - point.gradient).norm()) / largest if largest else 0.0)


def _unit(x: Tensor) -> Tensor:
    return x / x.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None, None]
