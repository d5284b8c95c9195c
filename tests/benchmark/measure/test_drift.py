"""Drift and reactivation on streams whose answer can be worked out by hand."""

from __future__ import annotations

import torch

from benchmark.measure.drift import Held, drift
from benchmark.sae.features import FeatureSet
from benchmark.sites import Site

UNIT = FeatureSet(Site(0), (0, 1), torch.eye(2), torch.zeros(2), torch.zeros(2), 2 * torch.eye(2))


def held(base: list[list[float]], defended: list[list[float]], attacked: list[list[float]]) -> list[Held]:
    """One position a row; the stream is the pre-activation."""
    streams = (torch.tensor(x)[:, None] for x in (base, defended, attacked))
    return [Held(UNIT, *(UNIT.encode(s) for s in streams))]


def test_nothing_moved_is_zero_everywhere():
    row = drift(held([[3.0, 1.0]], [[-1.0, 1.0]], [[-1.0, 1.0]]), 1e-3)[0]
    moved = (
        "drift_abs",
        "drift_linf",
        "drift_pre_abs",
        "drift_toward",
        "drift_away",
        "reactivated_mass",
        "decode_drift_abs",
    )
    assert all(getattr(row, name) == 0 for name in moved) and row.zero_reactivation is True


def test_numbers_of_a_reactivated_latent():
    row = drift(held([[3.0, 1.0]], [[-1.0, 4.0]], [[2.0, 1.0]]), 1e-3)[0]
    assert row.drift_abs == (2**2 + 3**2) ** 0.5
    assert row.drift_pre_abs == (3**2 + 3**2) ** 0.5
    assert row.drift_linf == 3.0
    assert row.drift_toward == (3**2 + 3**2) ** 0.5 and row.drift_away == 0.0
    assert row.reactivated_fraction == 1.0 and row.reactivated_mass == 2.0 and row.reactivation_margin == -2.0
    assert row.floor_violation_abs == 3.0
    assert row.decode_drift_abs == 2 * (2**2 + 3**2) ** 0.5
    assert row.drift_rel == row.drift_abs / 4.0


def test_motion_away_from_the_undefended_model_is_told_apart():
    row = drift(held([[3.0, 1.0]], [[-1.0, 1.0]], [[-2.0, 1.0]]), 1e-3)[0]
    assert row.drift_toward == 0.0 and row.drift_away == 1.0
    assert row.drift_abs == 0.0, "activations are blind to motion below the threshold; pre-activations are not"


def test_a_near_zero_normaliser_gives_null_and_never_a_huge_number():
    row = drift(held([[3.0, 1.0]], [[-1.0, -1.0]], [[2.0, -1.0]]), 1e-3)[0]
    assert row.near_zero is True and row.drift_rel is None and row.floor_violation_rel is None
    assert row.drift_rel_base == 2.0 / 10**0.5


def test_every_row_has_its_own_drift():
    rows = drift(held([[1.0, 1.0]] * 2, [[1.0, 1.0]] * 2, [[1.0, 1.0], [5.0, 1.0]]), 1e-3)
    assert [row.drift_abs for row in rows] == [0.0, 4.0]


def test_without_an_inactive_latent_reactivation_does_not_apply():
    row = drift(held([[1.0, 1.0]], [[1.0, 1.0]], [[1.0, 1.0]]), 1e-3)[0]
    assert row.reactivated_fraction is None and row.zero_reactivation is None
