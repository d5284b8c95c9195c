"""The clean re-measurement: full passes of the live defended model, from tokens, with the perturbations written in.

Nothing of the search is used again: neither its caches nor its tail pass nor its verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.defense import Latents
from benchmark.contracts.row import Detection, Drift, Record
from benchmark.measure.aim import Aim
from benchmark.measure.drift import Held, drift
from benchmark.measure.group import Group
from benchmark.measure.judging import DEGENERATE, is_broken
from benchmark.model.passes import FullPass, Seen, Writes
from benchmark.model.precision import HALF
from benchmark.search.pack_size import PackSize

VIOLATION = 1e-5
"""Largest relative leak into the protected directions (METHOD section 5)."""


class Size(NamedTuple):
    """How large a perturbation is."""

    norm: float
    """L2, or a number of tokens."""
    eps: float
    """In units of the budget."""
    sites: tuple[float, ...]
    """L2 at each perturbed site."""


class Measured(NamedTuple):
    """What one perturbation does to one example."""

    label: str
    margin: float
    recovered: bool
    """The goal is reached, and the constraint holds."""
    violation: float
    """How far outside its constraint it is, relative."""
    size: Size
    drift: Drift | None
    """None: nothing is protected where the perturbation reaches."""
    detection: Detection | None
    extra: Record | None
    begun: bool = False
    """The text begins as the search saw it begin, whatever it comes to."""
    broken: bool = False
    """What the verdict chooses from has next to no probability: the margin means nothing."""


@torch.no_grad()
def remeasure(group: Group, target: Aim, delta: Tensor, levels: int, pack_size: PackSize) -> list[Measured]:
    """What each of ``delta`` (examples x levels, sites, perturbed, d_model) does."""
    sets = group.protected_from(min(target.writes.boundaries))
    observe = frozenset(s.site.boundary for s in sets)
    example = target.plain.everyone
    quiet = Writes((), target.plain.length - target.common, 0, after=False)
    base = FullPass(group.subject, target.plain, {}, quiet)(None, example, observe).stream
    calm = FullPass(group.subject, target.plain, group.edits, quiet)
    defended = calm(None, example, observe).stream
    run = group.full_pass(target.pack, target.writes)
    owner = example.repeat_interleave(levels)
    rows: list[Measured] = []
    half = bool(sets) and group.subject.dtype in HALF

    def work(part: slice) -> None:
        index = owner[part]
        seen = run(delta[part], index, observe)
        # with another number of rows a product may be summed in another order, which half precision rounds to what
        # would be taken for drift: there the unperturbed pass has the very rows of the perturbed one
        own = calm(None, index, observe).stream if half else {b: h[index] for b, h in defended.items()}
        held = [_held(s, base, own, seen.stream, index, target.common) for s in sets]
        rows.extend(_measure(group, target, run, delta[part], index, held, seen))

    pack_size.split(len(owner), work)
    return rows


def _held(
    features: Latents,
    base: Mapping[int, Tensor],
    defended: Mapping[int, Tensor],
    attacked: Mapping[int, Tensor],
    index: Tensor,
    columns: int,
) -> Held:
    b = features.site.boundary
    streams = (base[b][index], defended[b], attacked[b][:, -columns:])
    return Held(features, *(features.encode(stream) for stream in streams))


def _measure(
    group: Group, target: Aim, run: FullPass, delta: Tensor, index: Tensor, held: Sequence[Held], passed: Seen
) -> list[Measured]:
    judged = group.task.readout.judged(run, delta, index, passed.read)
    verdict = group.protocol.verdict(group.task, "attacked")(judged, target.criteria.rows(index))
    nothing = [None] * len(index)
    moved = drift(held, group.drift_floor) if held else nothing
    seen = group.detector.detect(run, delta, index) if group.detector else nothing
    extra = group.protocol.measure(group, held, target.writes.width) or nothing
    leaks = target.constraint.violation(delta).tolist()
    sizes = _sizes(delta, target.unit)
    rows = zip(verdict.labels, verdict.margin.tolist(), leaks, sizes, moved, seen, extra, strict=True)
    counted = [_counted(group, target, *row) for row in rows]
    begun = group.task.readout.begun(target.pack.reader, index, judged)
    if begun is not None:
        counted = [found._replace(begun=hit) for found, hit in zip(counted, begun, strict=True)]
    if passed.log_mass is None or group.floor is None:
        return counted
    broken = is_broken(passed.log_mass, group.floor).tolist()
    return [_broken(found) if hit else found for found, hit in zip(counted, broken, strict=True)]


def _broken(found: Measured) -> Measured:
    """Neither a recovery nor what holds."""
    return found._replace(label=DEGENERATE, recovered=False, broken=True)


def _counted(
    group: Group,
    target: Aim,
    label: str,
    margin: float,
    leak: float,
    size: Size,
    moved: Drift | None,
    seen: Detection | None,
    extra: Record | None,
) -> Measured:
    """A recovery counts only together with its constraint, by the drift measured here where that is the constraint."""
    excess = None if target.tolerance is None or moved is None else _excess(moved, target.tolerance, group.drift_floor)
    feasible = excess is None or excess <= VIOLATION
    recovered = margin > 0 and group.protocol.counts(feasible)
    return Measured(label, margin, recovered, leak if excess is None else excess, size, moved, seen, extra)


def _excess(moved: Drift, tolerance: float, floor: float) -> float:
    """Drift beyond the tolerance, as a share of it; relative to the floor where nothing is active."""
    relative = moved.drift_abs / floor if moved.drift_rel is None else moved.drift_rel
    return max(relative / tolerance - 1, 0.0)


def _sizes(delta: Tensor, unit: float) -> list[Size]:
    totals, sites = delta.flatten(1).norm(dim=1).tolist(), delta.flatten(2).norm(dim=2).tolist()
    return [Size(total, total / unit, tuple(site)) for total, site in zip(totals, sites, strict=True)]
