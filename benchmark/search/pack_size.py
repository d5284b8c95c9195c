"""How many rows go through the model at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmark.errors import UsageError


@dataclass
class PackSize:
    """A number of rows, halved whenever the accelerator's memory runs out."""

    rows: int
    on_halved: Callable[[int], None] = field(default=lambda rows: None)

    def split(self, total: int, work: Callable[[slice], None]) -> None:
        """Do ``work`` on consecutive slices of ``total`` rows; a slice that runs out of memory is done again, smaller.

        Raises:
            UsageError: a single row does not fit.
        """
        done = 0
        while done < total:
            part = slice(done, min(done + self.rows, total))
            try:
                work(part)
            except torch.OutOfMemoryError as error:
                self._halve(part.stop - part.start, error)
                continue
            done = part.stop

    def _halve(self, tried: int, error: Exception) -> None:
        if tried == 1:
            raise UsageError(
                "not even one row fits into the device's memory; use a smaller dtype or --device cpu"
            ) from error
        self.rows = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.on_halved(self.rows)
