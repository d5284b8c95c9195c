"""What a run shows while it goes on: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from benchmark.run.listener import Columns
from benchmark.run.plan import Cell, Plan

MINUTE = 60.0
"""Seconds."""


class Live:
    """Tells a console; a context manager, so that the bar is always taken down."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn(
                "{task.description}",
                style="bold",
                markup=False,
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[tally]}", markup=False, table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            expand=True,
        )
        self.bar = self.progress.add_task("cells", total=None, tally="")
        self.attacked = self.recovered = 0
        self._over = threading.Event()

    def __enter__(self) -> Live:
        self.progress.start()
        if not self.console.is_terminal:
            threading.Thread(target=self._each_minute, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.progress.stop()

    def _each_minute(self) -> None:
        """Where there is no bar, a line a minute says that the run goes on."""
        while not self._over.wait(MINUTE):
            task = self.progress.tasks[0]
            if task.total:
                spent = f"{(task.elapsed or 0) / 60:.0f} min"
                self._say(f"{spent}: {task.completed:g} of {task.total:g} cells; {task.description}")

    def started(self, plan: Plan, done: int) -> None:
        self.progress.update(self.bar, total=len(plan.cells))
        resumed = f", {done} of them already done" if done else ""
        self._say(f"{len(plan.cells)} cells: {', '.join(plan.tasks)} x {', '.join(plan.defenses)}{resumed}")

    def fitting(self, task: str, defense: str) -> None:
        self.progress.update(self.bar, description=f"{task}: fitting {defense}")

    def fitted(self, card: Mapping[str, Any]) -> None:
        kept = card["utility"]["retained"]
        cost = "" if kept is None else f", keeps {kept:.1%} of the retain set"
        self._say(f"{card['task']}: {card['defense']} suppresses {card['suppressed']} of {card['eligible']}{cost}")

    def attacking(self, cell: Cell) -> None:
        self.progress.update(self.bar, description=f"{cell.task}: {cell.attack.title} ({cell.attack.threat_model})")

    def finished(self, cell: Cell, rows: Sequence[Columns], resumed: bool) -> None:
        attacked = [r for r in rows if r["status"] != "not_run" and not r["sanity"]]
        if _control(cell) is None and cell.split == "test":
            self.attacked += len(attacked)
            self.recovered += sum(bool(r["recovered"]) for r in attacked)
        self.progress.update(self.bar, advance=1, tally=f"{self.recovered}/{self.attacked} recovered")
        if not self.console.is_terminal and not resumed:
            self._say(f"  {cell.task} x {cell.defense} x {_title(cell)}: {_reached(rows, attacked)}")

    def note(self, text: str) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _title(cell: Cell) -> str:
    kind = _control(cell)
    fresh = ", fresh examples" if cell.split == "fresh" else ""
    title = f"{cell.attack.title} ({cell.attack.threat_model}, {cell.attack.constraint}{fresh})"
    return title if kind is None else f"{title}, {kind}"


def _control(cell: Cell) -> str | None:
    """What a cell is a control for, in words; None: it is an attack on the behavior."""
    if cell.attack.goal == "wrong":
        return "control: the same attack aimed at a wrong answer"
    if not cell.attack.is_control:
        return None
    if not any(cell.budgets):
        return "control: nothing is written"
    return "control" if cell.attack.searches else "control: written at random"


def _reached(rows: Sequence[Columns], attacked: Sequence[Columns]) -> str:
    """How much of what was attacked was reached at the largest budget, or why nothing was attacked."""
    if not attacked:
        why = next((r["error"] for r in rows if r["suppressed"] and r["error"]), None)
        return f"not run: {why}" if why else "nothing to attack, since nothing is suppressed"
    last = max(r["budget_eps"] for r in attacked)
    at_last = [r for r in attacked if r["budget_eps"] == last]
    return f"{sum(bool(r['recovered']) for r in at_last)} of {len(at_last)} reached at eps {last:g}"
