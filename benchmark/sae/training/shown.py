"""What `bench sae train` shows: how far it is, and a line for every SAE at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TaskID
from rich.table import Table

from benchmark.terminal import plain_table

_SECONDS = 10.0
"""Between two lines where there is no terminal."""
_COLUMNS = ("site", "latents", "k", "explained", "L0", "dead", "loss", "spliced", "ablated", "recovered", "tokens/s")


class Progress:
    """A listener of a training: a live bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Bar(console=console, disable=not console.is_terminal, transient=True)
        self.tasks: dict[str, TaskID] = {}
        self.told = time.monotonic()

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=total)
        self.bar.update(self.tasks[what], completed=done)
        if not self.console.is_terminal and (done == total or time.monotonic() - self.told > _SECONDS):
            self.told = time.monotonic()
            self.console.print(f"{what}: {done:,} of {total:,}")


def table(reports: Iterable[Mapping[str, Any]]) -> Table:
    """The measures on held-out text, a row for every SAE."""
    made = plain_table(*_COLUMNS, whole="site")
    for report in reports:
        made.add_row(*_cells(report))
    return made


def _cells(report: Mapping[str, Any]) -> list[str]:
    health, settings = report["held_out"], report["settings"]
    recovered = health["loss_recovered"]
    speed = settings["visits"] // settings["batch"] * settings["batch"] / max(report["seconds"]["training"], 1e-9)
    return [
        report["site"],
        str(settings["width"]),
        str(settings["k"]),
        f"{health['explained_variance']:.3f}",
        f"{health['l0']:.1f}",
        f"{health['dead']:.1%}",
        *(f"{health[name]:.3f}" for name in ("loss", "spliced_loss", "ablated_loss")),
        "" if recovered is None else f"{recovered:.3f}",
        f"{speed:,.0f}",
    ]
