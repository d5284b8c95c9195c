"""What a fit gives, looked at before anything is done with it: its kind, its record, and its edits on clean text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from benchmark.contracts.defense import Edit, FittedDefense
from benchmark.contracts.example import Example
from benchmark.contracts.readout import Criteria, Verdict
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.measure.judging import Judged, judge
from benchmark.model.edits import Placed, by_boundary
from benchmark.model.subject import Subject
from benchmark.sites import Site

SHARES = ("suppressed_fit", "retained_fit")
"""Keys of a record that are read as shares."""


def checked(fitted: Any) -> FittedDefense:
    """What a fit returned, with its record as plain JSON values.

    Raises:
        UsageError: it is no fitted defense, or a value of its record is none that JSON has; the key is named.
    """
    if not isinstance(fitted, FittedDefense):
        raise UsageError(
            f"`fit` returned {_kind(fitted)}; return what it promises: FittedDefense(edits, protected, record)"
        )
    if not isinstance(fitted.record, Mapping):
        raise UsageError(f"the record of a fit is {_kind(fitted.record)}; give a mapping of JSON values")
    record = plain(fitted.record, "record")
    for key in SHARES:
        share = record.get(key)
        if share is not None and (isinstance(share, bool) or not isinstance(share, int | float)):
            raise UsageError(f"record[{key!r}] is {share!r}; it is read as a share: give a number, or leave it out")
    return replace(fitted, record=record)


def plain(value: Any, where: str) -> Any:
    """A value as JSON has it; numbers of numpy and tensors without dimensions are taken exactly.

    Raises:
        UsageError: it is none, or a number that is not finite; ``where`` names its place.
    """
    if isinstance(value, np.generic) or (isinstance(value, Tensor | np.ndarray) and value.ndim == 0):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UsageError(f"{where} is {value}: JSON has no such number; write None, or leave it out")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UsageError(f"{where} has the key {key!r}, {_kind(key)}; give texts as the keys of a record")
        return {key: plain(part, f"{where}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
    raise UsageError(
        f"{where} is {_kind(value)}; a record holds texts, finite numbers, lists and mappings (`.tolist()`)"
    )


def judge_finite(
    subject: Subject,
    task: Task,
    examples: Sequence[Example],
    edits: Mapping[Site, Edit],
    verdict: Callable[[Any, Criteria], Verdict] | None = None,
    floor: float | None = None,
) -> Judged:
    """What a task says of examples under edits.

    Raises:
        UsageError: an edit makes NaN or infinity of a finite stream; site and number of positions are named.
    """
    by_boundary(subject, edits)
    watched = {site: Placed(subject, site, edit, counting=True) for site, edit in edits.items()}
    try:
        return judge(subject, task, examples, watched, verdict, floor)
    finally:
        spoiled = [f"{edit.spoiled} positions at {site}" for site, edit in watched.items() if edit.spoiled]
        if spoiled:
            raise UsageError(
                f"on clean text the edits make NaN or infinity of a finite stream: {', '.join(spoiled)}, over"
                f" {len(examples)} examples of {task.name}; make them finite there"
            )


def _kind(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor | np.ndarray) else ""
    return f"a {type(value).__module__}.{type(value).__qualname__}{shape}".replace("builtins.", "")
