"""The attacker writes behind the edit of the same site: are the defended features a bottleneck?"""

from __future__ import annotations

from benchmark.registry import register_threat
from benchmark.threats.stream import StreamThreat


@register_threat("after_edit")
class AfterEdit(StreamThreat):
    """On the stream after the edit of each defended site, which is not run again there; later edits are live."""

    role = "diagnostic"
    after = True
