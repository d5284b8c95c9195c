"""What a fitted defense is and what it costs, beside what it suppresses: fits/<task>__<defense>.json."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.contracts.defense import Edit
from benchmark.contracts.task import Readings
from benchmark.measure.group import Group
from benchmark.measure.judging import Judged, Retention, read_pack
from benchmark.model.pack import Pack, make_packs
from benchmark.model.streams import whole

REPEATS = 5
"""Equal forwards that a deterministic defense answers alike."""


def card(group: Group, retention: Retention) -> dict[str, Any]:
    """What fitting found and what the defense costs, for fits/<task>__<defense>.json."""
    retained = retention.judged(group.fitted.edits)
    return {
        "task": group.task.name,
        "record": dict(group.fitted.record),
        "suppressed_fit": group.fitted.record.get("suppressed_fit"),
        "eligible": int(group.eligible.sum()),
        "suppressed": int(group.suppressed.sum()),
        "pass": "tail" if group.tail else "full: the tail pass differs on this model",
        "utility": utility(group, retention, retained),
        "idempotence_gap": idempotence_gap(group),
        "nondeterminism": nondeterminism(group),
        "edit_moved": edit_moved(group),
        "monitor_false_positives": None if group.detector is None else group.detector.false_positives,
        "task_figures": task_figures(group, retention, retained),
        "side_effects": side_effects(group, retention, retained),
    }


def task_figures(group: Group, retention: Retention, retained: Judged) -> dict[str, Any]:
    """What the task itself says of a defense, on the ``test`` and ``retain`` examples."""
    examples = [*group.examples, *retention.examples]
    base, defended = [*group.base.read, *retention.base.read], [*group.defended.read, *retained.read]
    return dict(group.task.summary(Readings(examples, base), Readings(examples, defended)))


def side_effects(group: Group, retention: Retention, retained: Judged) -> list[dict[str, Any]]:
    """What the task says of the ``retain`` examples, one by one."""
    examples = retention.examples
    found = group.task.side_effects(Readings(examples, retention.base.read), Readings(examples, retained.read))
    return [one.record for one in found]


def utility(group: Group, retention: Retention, retained: Judged) -> dict[str, Any]:
    """Share of the retain set kept, and the cross-entropy of its answers (nats a choice, or a token)."""
    return {
        "retained": retention.share(retained),
        "n": len(retention.examples),
        "n_clusters": len({e.cluster for e in retention.examples}),
        "ce_base": retention.base_loss,
        "ce_defended": retention.loss(group.fitted.edits, retained),
    }


@torch.no_grad()
def nondeterminism(group: Group) -> float:
    """Largest difference between equal forwards of the defended model: 0 unless the defense draws at random."""
    pack = make_packs(group.subject, group.task, group.examples[:32], 32)[0]
    reads = [group.task.readout.flat(read_pack(group.subject, pack, group.edits)) for _ in range(REPEATS)]
    return max(float((read - reads[0]).abs().nan_to_num(nan=torch.inf).max()) for read in reads)


@torch.no_grad()
def edit_moved(group: Group) -> float | None:
    """L2 change of the stream by the edits in a scored forward, relative to the stream; None: there are no edits."""
    moved = total = 0.0
    for boundary in group.edits:
        for pack in make_packs(group.subject, group.task, group.examples[:32], 32):
            h = _stream(group, pack, boundary)
            moved += float((_stream(group, pack, boundary, edited=True) - h).float().square().sum())
            total += float(h.float().square().sum())
    return (moved / total) ** 0.5 if total else None


@torch.no_grad()
def idempotence_gap(group: Group) -> float | None:
    """How much a second application of the edits moves the stream, relative to the first; the largest over sites.

    A dictionary is not orthogonal, so this is not 0 for an honest clamp; it is shown, not forbidden.
    """
    gaps = [_site_gap(group, b, edit) for b, edit in group.edits.items()]
    known = [g for g in gaps if g is not None]
    return max(known) if known else None


def _site_gap(group: Group, boundary: int, edit: Edit) -> float | None:
    moved = moved_again = 0.0
    for pack in make_packs(group.subject, group.task, group.examples[:32], 32):
        h = _stream(group, pack, boundary)
        once = edit(h, pack.text)
        moved += float((once - h).float().square().sum())
        moved_again += float((edit(once, pack.text) - once).float().square().sum())
    return (moved_again / moved) ** 0.5 if moved else None


def _stream(group: Group, pack: Pack, boundary: int, *, edited: bool = False) -> torch.Tensor:
    """What comes to the edit at ``boundary``, or what leaves it, in a scored forward."""
    live = {b: e for b, e in group.edits.items() if b < boundary or edited}
    return whole(group.subject, pack, live)(None, pack.everyone, frozenset({boundary})).stream[boundary]
