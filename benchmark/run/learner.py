"""The model that a defense learns on: what it does to it, it does to a copy."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor

from benchmark.model.subject import Subject


def copied(subject: Subject) -> Subject:
    """The same frozen model for who learns: modules, settings and tokenizer are copies, the weights are shared."""
    tensors: Mapping[int, Tensor] = {
        id(t): t for t in (*subject.model.parameters(), *subject.model.buffers()) if t is not None
    }
    return Subject(
        deepcopy(subject.model, dict(tensors)),
        deepcopy(subject.tokenizer),
        subject.name,
        subject.saes,
        subject.taken,
        subject.own_bos,
    )
