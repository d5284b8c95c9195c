"""The audit as a table."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmark.published.audit.reading import Reading
from benchmark.published.audit.run import Audit
from benchmark.published.switches import MEANING

NOTHING = 1e-6
"""Differences up to this, relative to the larger side, are none."""


def table(found: Audit) -> RenderableType:
    """A line a quantity, grouped by switch, with what each switch stands for below."""
    shown = Table("switch", "quantity", "strict", "paper", "difference", "n", box=None, pad_edge=False)
    shown.columns[0].no_wrap = True
    for column in shown.columns[2:]:
        column.justify, column.no_wrap = "right", True
    before = None
    for r in found.readings:
        named = str(r.switch) if r.switch != before else ""
        before = r.switch
        numbers = [number(r.strict), number(r.paper), difference(r)]
        what = Text.assemble(f"{r.quantity} ({r.unit})", (f"\n{r.setting}", "dim"))
        shown.add_row(named, what, *numbers, str(r.n))
    told = [Text(f"{m.switch}: not shown, {m.why}", style="yellow") for m in found.missing]
    switches = dict.fromkeys(r.switch for r in found.readings)
    told += [Text(f"{s}: {MEANING[s].defect}.", style="dim") for s in switches]
    head = f"protocols strict and paper side by side on {found.model}: {found.seconds:.0f} s"
    return Group(Text(head, style="bold"), shown, Text(), *told)


def number(value: float | None) -> str:
    """Three significant digits, without needless zeros; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.1e}" if value and not 1e-3 <= abs(value) < 1e5 else f"{value:.3g}"


def difference(reading: Reading) -> str:
    """Signed; ``none`` where both sides agree."""
    by = reading.difference
    if by is None:
        return "-"
    size = max(abs(reading.strict or 0.0), abs(reading.paper or 0.0))
    return "none" if abs(by) <= NOTHING * size or size < NOTHING else f"{'+' if by > 0 else ''}{number(by)}"
