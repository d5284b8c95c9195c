"""Who judges which arm of an experiment: strictly the task's one verdict, under the protocol ``paper`` three detectors.

A verdict is blind to its arm. The study's was not: it had another detector for the defended texts than for the
recovered ones, and this is the only place that knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from benchmark.contracts import Batch, Continuation, Task, Text, Verdict
from benchmark.protocol import Protocol, Switch
from benchmark.registry import JUDGES

Arm = Literal["base", "defended", "attacked"]
Judgement = Callable[[Any, Batch], Verdict]
DETECTORS: dict[Arm, str] = {"base": "paper-narrow", "defended": "paper-wide", "attacked": "paper-narrow"}


def verdict_of(task: Task, arm: Arm, protocol: Protocol) -> Judgement:
    """What judges an arm: ``task.verdict``, the same for all, but for texts under asymmetric detectors."""
    if Switch.ASYMMETRIC_DETECTORS not in protocol or not isinstance(task.readout, Continuation):
        return task.verdict
    detector = JUDGES.get(DETECTORS[arm])()

    def judge(read: Sequence[Text], batch: Batch) -> Verdict:
        labels = detector.labels([answer.text for answer in read], batch)
        margin = [1.0 if label == "complies" else -1.0 for label in labels]
        return Verdict(labels, torch.tensor(margin, device=batch.answer.device))

    return judge
