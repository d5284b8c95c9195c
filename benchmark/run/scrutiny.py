"""What is looked at of a defense that is evaluated, beside its rows.

Its promises, and whether it does on ``dev`` what it does on ``test``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from benchmark.contracts.example import Example
from benchmark.measure.group import Group
from benchmark.measure.judging import judge
from benchmark.run.groups import Undefended
from benchmark.run.validate import broken_promises


def scrutiny(group: Group, undefended: Undefended) -> dict[str, Any]:
    """For the card of a fitted defense."""
    return {
        "broken_promises": [f"{f.promise}: {f.evidence}" for f in broken_promises(group)],
        "suppressed_share": {
            "test": share(group.suppressed, group.eligible, group.examples),
            "dev": _on_dev(group, undefended),
        },
    }


def _on_dev(group: Group, undefended: Undefended) -> dict[str, float | int] | None:
    examples, able = undefended.dev
    if not examples:
        return None
    shown = judge(group.subject, group.task, examples, group.fitted.edits, None).shown
    return share(able & ~shown, able, examples)


def share(hit: Tensor, among: Tensor, examples: Sequence[Example]) -> dict[str, float | int] | None:
    """Share of the examples ``among`` which are ``hit``, (examples,) bool each, its cluster-robust standard error, and
    of how many; None: there are none."""
    kept = [(e.cluster, float(h)) for e, h, a in zip(examples, hit.tolist(), among.tolist(), strict=True) if a]
    if not kept:
        return None
    mean = sum(value for _, value in kept) / len(kept)
    residuals: dict[str, float] = defaultdict(float)
    for cluster, value in kept:
        residuals[cluster] += value - mean
    error = sum(r * r for r in residuals.values()) ** 0.5 / len(kept)
    return {"share": mean, "error": error, "n": len(kept)}
