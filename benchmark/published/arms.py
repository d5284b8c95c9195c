"""Who judges which arm of an experiment, as in the study: three times a detector, and not the same one.

A task's verdict is blind to its arm. The study had another detector for the defended texts than for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from benchmark.contracts.protocol import Arm
from benchmark.contracts.readout import Criteria, Judging, Text, Verdict
from benchmark.contracts.task import Judge
from benchmark.published.detectors import Narrow, Wide

DETECTORS: Mapping[Arm, Judge] = {"base": Narrow(), "defended": Wide(), "attacked": Narrow()}


def by_detector(arm: Arm) -> Judging:
    """What judges the texts of an arm; the margin is 1 where one complies, else -1."""

    def judge(read: Sequence[Text], criteria: Criteria) -> Verdict:
        labels = DETECTORS[arm].labels([answer.text for answer in read], criteria)
        margin = [1.0 if label == "complies" else -1.0 for label in labels]
        return Verdict(labels, torch.tensor(margin, device=criteria.answer.device))

    return judge
