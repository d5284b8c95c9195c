"""What a run shows: who is told what, on a terminal of 80 columns and on none."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from attacks.random_direction import RandomDirection
from attacks.recovery import Recovery
from attacks.zero import Zero
from benchmark.run.display import Live
from benchmark.run.plan import Cell

ATTACK = Cell("k", "unlearning", "clamp-[v2]", Recovery(threat_model="before_edit"), (0.1, 0.2))
WRONG = replace(ATTACK, attack=replace(ATTACK.attack, goal="wrong"))
RANDOM = replace(ATTACK, attack=RandomDirection(threat_model="before_edit"))
IDLE = replace(ATTACK, attack=Zero(), budgets=(0.0,))


def row(recovered: bool = True, **changes: Any) -> dict[str, Any]:
    return {
        "status": "ok",
        "sanity": False,
        "recovered": recovered,
        "budget_eps": 0.2,
        "suppressed": True,
        "error": None,
        **changes,
    }


def plain(cell: Cell, *rows: dict[str, Any]) -> str:
    out = io.StringIO()
    with Live(Console(file=out, width=80)) as live:
        live.finished(cell, rows, False)
    return out.getvalue().strip()


def test_the_bar_fits_into_80_columns_with_both_times_and_what_runs_now() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None, legacy_windows=False)
    live = Live(console)
    live.progress.update(live.bar, total=40)
    live.finished(ATTACK, [row()] * 120, False)
    live.attacking(replace(WRONG, task="a-task-with-a-very-long-name-" * 3))
    console.print(live.progress.get_renderable())
    (line,) = [line for line in out.getvalue().splitlines() if "a-task" in line]
    assert len(line.rstrip()) <= 80 and line.count(":") >= 4, line
    assert re.search(r"1/40 +120/120 recovered +\d:\d\d:\d\d +(-:--:--|\d:\d\d:\d\d)", line), line
    live.attacking(ATTACK)
    console.print(live.progress.get_renderable())
    assert "unlearning: recovery (before" in out.getvalue().splitlines()[-1]


def test_only_attacks_on_the_behavior_are_counted() -> None:
    live = Live(Console(file=io.StringIO()))
    for cell in (WRONG, RANDOM, IDLE):
        live.finished(cell, [row(), row()], False)
    assert (live.attacked, live.recovered) == (0, 0)
    live.finished(ATTACK, [row(), row(False), row(sanity=True), row(status="not_run")], False)
    assert (live.attacked, live.recovered) == (2, 1)


@pytest.mark.parametrize(
    ("cell", "said"),
    [(WRONG, "aimed at a wrong answer"), (RANDOM, "written at random"), (IDLE, "nothing is written"), (ATTACK, None)],
)
def test_a_plain_line_says_what_a_control_is(cell: Cell, said: str | None) -> None:
    line = plain(cell, row(), row(False))
    assert "clamp-[v2]" in line and "1 of 2 reached at eps 0.2" in line
    assert ("control" in line) == (said is not None) and (said or "") in line


def test_a_plain_line_says_why_nothing_was_attacked() -> None:
    why = "the defense protects no features"
    not_run = row(status="not_run", recovered=False, error=why)
    assert plain(ATTACK, not_run, row(suppressed=False, status="not_run")).endswith(f": not run: {why}")
    assert plain(ATTACK, row(suppressed=False, status="not_run")).endswith("nothing is suppressed")
