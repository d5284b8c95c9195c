"""How much of a perturbation shows, as a differentiable number a row: what an attack that hides keeps small.

The study's obfuscation term had a gradient of zero (its monitor was detached); this one is the drift of the protected
pre-activations, which have a gradient where activations have none, and the excess of the defense's own monitor.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.model.passes import FullPass, Writes
from benchmark.model.streams import whole


class Visibility:
    """Relative drift of the protected latents, plus the monitor's score beyond its threshold, relative to that."""

    @torch.no_grad()
    def __init__(self, group: Group, target: Aim) -> None:
        plain, start, everyone = target.plain, target.writes.start, target.plain.everyone
        self.sets = group.protected_from(min(target.writes.boundaries))
        self.detector, self.pack, self.columns = group.detector, target.pack, target.common
        monitored = [] if self.detector is None else [self.detector.monitor.site.boundary]
        self.observe = frozenset([*(s.site.boundary for s in self.sets), *monitored])
        quiet = Writes((), plain.length - self.columns, 0, after=False)
        defended = FullPass(group.subject, plain, group.edits, quiet)(None, everyone, self.observe).stream
        self.unperturbed = [s.encode(defended[s.site.boundary]).pre for s in self.sets]
        square = sum(
            (u.flatten(1).square().sum(1) for u in self.unperturbed), torch.zeros(len(plain), device=everyone.device)
        )
        self.norm = square.sqrt().clamp(min=group.drift_floor)
        before = whole(group.subject, self.pack, group.edits)(None, everyone, self.observe).stream
        self.before = {b: stream[:, :start] for b, stream in before.items()}
        """Boundary -> the stream before the first perturbed position, which no perturbation changes."""

    def __call__(self, stream: Mapping[int, Tensor], example: Tensor) -> Tensor:
        """(rows,), 0 where nothing shows: ``stream`` from the first perturbed position on, ``example`` of each row."""
        changes = [
            (s.encode(stream[s.site.boundary][:, -self.columns :]).pre - own[example]).flatten(1)
            for s, own in zip(self.sets, self.unperturbed, strict=True)
        ]
        visible = torch.zeros(len(example), device=example.device)
        if changes:
            visible = torch.cat(changes, 1).norm(dim=1) / self.norm[example]
        if self.detector is not None:
            b, limit = self.detector.monitor.site.boundary, self.detector.threshold
            h = torch.cat([self.before[b][example], stream[b]], 1)
            score = self.detector.monitor.score(h, self.pack.text.rows(example))
            visible = visible + (score - limit).clamp(min=0) / max(abs(limit), 1e-6)
        return visible
