"""The attacker writes to the stream before the defense, which runs on what was written: does it hold?"""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.measure.group import Group
from benchmark.registry import register_threat
from benchmark.threats.after_edit import AfterEdit
from benchmark.threats.stream import StreamThreat


@register_threat("before_edit")
class BeforeEdit(StreamThreat):
    """On the stream before the edit of each defended site; the defense is live.

    A defense that names its sites would choose where it is attacked. So it is attacked at the suite's own site of the
    task too, before whatever it does there or later, and the worse of both counts, row by row.
    """

    role = "primary"
    after = False
    reaches_less_than = AfterEdit.name
    """At least up to how an edit scales a perturbation."""
    undefended = AfterEdit.name

    def places(self, group: Group) -> Sequence[Group]:
        read, home = group.task.readout.reads_at, group.home
        beyond = home is None or (read is not None and read.boundary < home)
        return (group,) if beyond or group.sites == (home,) else (group, group.at_home)
