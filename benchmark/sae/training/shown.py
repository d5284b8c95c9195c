"""What `bench sae train` shows: how far it is, and what every SAE is worth at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TaskID

_SECONDS = 10.0
"""Between two lines where there is no terminal."""


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


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What an SAE is worth on held-out text."""
    health, settings, trained = report["held_out"], report["settings"], report["seconds"]["training"]
    seen = settings["visits"] // settings["batch"] * settings["batch"]
    yield f"{report['site']}: {settings['width']} latents, {report['activations']:,} activations"
    yield (
        f"  {health['tokens']:,} held-out tokens: explained variance {health['explained_variance']:.3f}, "
        f"{health['l0']:.1f} latents active, {health['dead']:.1%} dead"
    )
    recovered = health["loss_recovered"]
    share = "ablation costs nothing" if recovered is None else f"{recovered:.1%} of the loss recovered"
    yield (
        f"  cross-entropy {health['loss']:.3f}, spliced in {health['spliced_loss']:.3f}, "
        f"mean-ablated {health['ablated_loss']:.3f}: {share}"
    )
    yield f"  {seen:,} token visits in {trained:.0f} s, {seen / max(trained, 1e-9):,.0f} a second"
