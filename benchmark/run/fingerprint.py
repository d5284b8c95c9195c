"""What a fitted defense does, in a few numbers: the same for the same fit, on whatever hardware.

Each site's edit is applied to a few fixed streams, and what it changes is projected onto fixed random directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmark.measure.group import Group
from benchmark.model.pack import make_packs
from benchmark.model.streams import whole
from benchmark.search.draws import normal

PROJECTIONS = 6
ROWS = 8
EXACT, ROUNDED = 1e-3, 5e-2
"""Largest difference, relative to the size of the change, that other hardware makes: of fp32 and fp64, and of other
dtypes."""


@torch.no_grad()
def fingerprint(group: Group) -> dict[str, Any]:
    """Of the group's fitted defense, as JSON values."""
    pack = max(make_packs(group.subject, group.task, group.examples[:32], ROWS), key=len)
    streams = whole(group.subject, pack, {})(None, pack.everyone, frozenset(group.edits)).stream
    sites: dict[str, list[float]] = {}
    for boundary, edit in sorted(group.edits.items()):
        h = streams[boundary]
        change = (edit(h, pack.text) - h).double().cpu().flatten()
        directions = normal("fingerprint", (PROJECTIONS, len(change))).double()
        sites[str(boundary)] = [_rounded(v) for v in (float(change.norm()), *(directions @ change).tolist())]
    return {
        "tolerance": EXACT if group.subject.dtype in (torch.float32, torch.float64) else ROUNDED,
        "sites": sites,
        "protected": {str(s.site): sorted(s.latents) for s in group.fitted.protected},
        "threshold": None if group.detector is None else _rounded(group.detector.threshold),
    }


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """How two fingerprints differ, in words; None: they are of the same fit."""
    if before.get("protected") != now["protected"]:
        return "other latents are protected"
    old, new = before.get("sites", {}), now["sites"]
    if set(old) != set(new):
        return f"other sites are edited: layers {', '.join(sorted(old))}, now {', '.join(sorted(new))}"
    for site, numbers in new.items():
        size = max(old[site][0], numbers[0], 1e-12)
        gap = max(abs(a - b) for a, b in zip(old[site], numbers, strict=True)) / size
        if gap > now["tolerance"] * PROJECTIONS:
            return f"what its edit before layer {site} changes differs by {gap:.2g} of its size"
    return _thresholds(before.get("threshold"), now["threshold"], now["tolerance"])


def _thresholds(old: float | None, new: float | None, tolerance: float) -> str | None:
    same = old == new if old is None or new is None else abs(old - new) <= 10 * tolerance * max(abs(old), abs(new))
    return None if same else f"its monitor's threshold is {new}, and was {old}"


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
