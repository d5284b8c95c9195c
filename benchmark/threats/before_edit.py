"""The attacker writes to the stream before the defense, which runs on what was written: does it hold?"""

from __future__ import annotations

from benchmark.registry import register_threat
from benchmark.threats.after_edit import AfterEdit
from benchmark.threats.vectors import StreamThreat


@register_threat("before_edit")
class BeforeEdit(StreamThreat):
    """On the stream before the edit of each defended site; the defense is live."""

    role = "primary"
    after = False
    reaches_less_than = AfterEdit.name
    """At least up to how an edit scales a perturbation."""
