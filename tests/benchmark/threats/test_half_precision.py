"""Attacks on a model in half precision find what they find in single precision, and hold still what they must."""

from __future__ import annotations

from copy import copy, deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.minimum_norm import MinimumNorm
from attacks.random_direction import RandomDirection
from attacks.recovery import Recovery
from benchmark.contracts.defense import FittedDefense, Where
from benchmark.measure.group import Group
from benchmark.model import edits
from benchmark.model.subject import Subject
from benchmark.sites import Site
from tests.groups import Far, Rows, cell, clamped_group, toy_group

DTYPES = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def clamped(tmp_path_factory: Any) -> Group:
    return clamped_group(tmp_path_factory.mktemp("sae"))


def on(group: Group, subject: Subject) -> Group:
    """The same defense on another model."""
    fitted = FittedDefense(group.fitted.edits, group.fitted.protected)
    return toy_group(subject, group.task, fitted, scale=group.scale)


def retyped(group: Group, dtype: torch.dtype, rounded_to: torch.dtype) -> Group:
    """The group's model in ``dtype``, with weights as ``rounded_to`` has them."""
    subject = copy(group.subject)
    for name in ("layers", "parts"):
        vars(subject).pop(name, None)
    object.__setattr__(subject, "model", deepcopy(group.subject.model).to(rounded_to).to(dtype))
    return on(group, subject)


def drifts(group: Group) -> list[float]:
    rows, _ = cell(group, Recovery(constraint="encoder", restarts=1, search=MinimumNorm(steps=4)), (0.5,))
    return [row["drift_pre_abs"] / row["delta_norm"] for row in rows]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_protected_moves_in_its_null_space(
    clamped: Group, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in single precision; with the sum of stream and perturbation rounded, as the layers are, it would."""
    half = retyped(clamped, dtype, dtype)
    assert max(drifts(half)) < 1e-5
    monkeypatch.setattr(edits, "widened", lambda h: h)
    assert max(drifts(half)) > 1e-4


def matched(rows: Rows, others: Rows) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Rows of the same example and budget."""
    known = {(r["example_id"], r["budget_eps"]): r for r in others}
    return [(r, known[key]) for r in rows if (key := (r["example_id"], r["budget_eps"])) in known]


def test_what_is_recovered_and_how_little_it_takes_is_the_same(clamped: Group) -> None:
    """In bfloat16, the coarser of the two; by a short search, since rounding decides where a long one turns."""
    attack, dtype = Far(restarts=1, search=MinimumNorm(steps=6)), torch.bfloat16
    half, single = (cell(retyped(clamped, d, dtype), attack)[0] for d in (dtype, torch.float32))
    pairs = matched(half, single)
    assert len(pairs) > 0.9 * len(single)
    clear = [(a, b) for a, b in pairs if abs(b["margin_attacked"]) > 0.1 * abs(b["margin_base"])]
    assert len(clear) >= 0.7 * len(pairs)
    assert {b["recovered"] for _, b in clear} == {True, False}
    assert all(a["recovered"] == b["recovered"] for a, b in clear)
    both = [(a["min_eps"], b["min_eps"]) for a, b in clear if None not in (a["min_eps"], b["min_eps"])]
    assert len(both) > 2
    ratios = torch.tensor([a / b for a, b in both])
    assert abs(float(ratios.median()) - 1) < 0.02 and float((ratios - 1).abs().max()) < 0.25


class Crowded:
    """Rounds otherwise with another number of rows, as a matrix product may."""

    position_wise = True

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return h + 1e-3 * h.shape[0]


@pytest.mark.parametrize(("dtype", "still"), [(torch.bfloat16, True), (torch.float32, False)])
def test_what_another_number_of_rows_rounds_to_is_no_drift(clamped: Group, dtype: torch.dtype, still: bool) -> None:
    """Of single precision that is below what is asked, so that no further pass is made; here it shows what would be."""
    fitted = FittedDefense({Site(1): Crowded(), **clamped.fitted.edits}, clamped.fitted.protected)
    subject = retyped(clamped, dtype, dtype).subject
    group = toy_group(subject, clamped.task, fitted, scale=clamped.scale, sites=clamped.sites)
    rows, _ = cell(group, RandomDirection(constraint="encoder", restarts=1), (0.2, 0.5))
    assert (max(row["drift_pre_abs"] for row in rows) < 1e-4) == still
