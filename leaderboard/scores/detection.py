"""What a defense's monitor makes of the recoveries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from leaderboard.rows.fits import Fit
from leaderboard.rows.run import MeasuredCell
from leaderboard.rows.selection import monitored
from leaderboard.scores.intervals import estimates
from leaderboard.scores.outcomes import Outcomes, outcomes
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.values import Estimate, Strict


class Detection(Strict):
    """What the defense's monitor makes of the recoveries that enter the score, over all their budgets."""

    false_positives: float | None
    """Share of the unattacked test examples that it calls attacked."""
    recovered: int
    detected_share: Estimate
    """Share of the recovered examples whose every recovery it calls attacked."""
    undetected_share: Estimate
    """Share of the suppressed examples that came back at least once without being called attacked."""


def detection(cells: Sequence[MeasuredCell], fit: Fit | None, resamples: Resamples) -> Detection | None:
    """The monitor on one task; null: there is none, or nothing that enters the score was attacked."""
    rows = [cell.rows for cell in cells if cell.scored and monitored(cell.rows)]
    if not rows:
        return None
    worst = outcomes(pa.concat_tables(rows))
    unseen = np.logical_or.reduce(worst.undetected[worst.suppressed], axis=1, keepdims=True)
    return Detection(
        false_positives=fit.monitor_false_positives if fit else None,
        recovered=int(worst.recovered.any(axis=1).sum()),
        detected_share=detected_share(worst, slice(None), resamples),
        undetected_share=estimates(unseen, worst.clusters[worst.suppressed], resamples)[0],
    )


def detected_share(worst: Outcomes, column: int | slice, resamples: Resamples) -> Estimate:
    """Share of the examples recovered at the given budgets of which every recovery there was detected."""
    recovered, undetected = (
        np.logical_or.reduce(values[:, column].reshape(len(worst.examples), -1), axis=1)
        for values in (worst.recovered, worst.undetected)
    )
    return estimates(~undetected[recovered][:, None], worst.clusters[recovered], resamples)[0]
