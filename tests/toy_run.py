"""A small run of the toy suite in a process of its own: ``python -m tests.toy_run SUITE OUTPUT [kill-after N]``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch

from benchmark import evaluate
from benchmark.registry import TASKS
from benchmark.run.listener import Silent
from defenses.sae_clamp import SaeClamp
from tests.tiny import ToyTask

DEFENSE = SaeClamp(strength=3.0, count=24, contrast=0.0, rate_ratio=0.0)
FEW: dict[str, Any] = {"attacks": ["recovery"], "controls": False}
"""Options of a run with eight cells."""


class Killer(Silent):
    """Ends the process without any clean-up after some cells."""

    def __init__(self, after: int) -> None:
        self.left = after

    def finished(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    torch.set_num_threads(1)
    TASKS.register("toy")(ToyTask)
    suite, output = sys.argv[1:3]
    listener = Killer(int(sys.argv[3])) if len(sys.argv) > 3 else Silent()
    evaluate(DEFENSE, suite=suite, output_dir=output, listener=listener, **FEW)


if __name__ == "__main__":
    main()
