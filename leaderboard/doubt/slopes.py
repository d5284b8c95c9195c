"""Flags about the gradients that a search was given: they are looked at again on a sample of the rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from leaderboard.doubt.flags import Finding
from leaderboard.rows.arrays import carries, real, where

SHARE = 0.5
"""A sound edit has kinks and jumps: on some rows most of the points looked at may lie near one."""


def slope_findings(rows: pa.Table) -> Iterator[Finding]:
    """What the sampled rows of an attack raise, at whatever budget they are."""
    sampled = where(rows, ~np.isnan(real(rows, "slope_gap")))
    if not sampled.num_rows:
        return
    count = sampled.num_rows
    off = float(carries(sampled, "gradient-mismatch").mean())
    if off > SHARE:
        ratios = real(sampled, "slope_ratio")
        median = float(np.nanmedian(ratios)) if (~np.isnan(ratios)).any() else float("inf")
        yield Finding(
            "gradient-mismatch",
            median,
            f"what is measured rises {median:.3g} times as fast as the gradients say (median); "
            f"{off:.0%} of {count} sampled rows were misled",
        )
    other = float(carries(sampled, "depends-on-caller").mean())
    if other > SHARE:
        gap = float(np.median(real(sampled, "call_path_gap")))
        yield Finding(
            "depends-on-caller",
            gap,
            f"asked from elsewhere, the defended model gives another answer in {other:.0%} of {count} sampled rows",
        )
