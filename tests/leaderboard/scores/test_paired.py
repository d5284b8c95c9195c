"""Measures of documents, base against defended: known differences, their intervals, and what is kept."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from leaderboard.rows.fits import PairedRecord
from leaderboard.scores.paired import PairedScore, paired_score
from leaderboard.scores.resampling import Resampler


def score(**changes: Any) -> PairedScore:
    given = {"name": "one", "metric": "acc", "unit": "share", **changes}
    return paired_score(PairedRecord.model_validate(given), Resampler(resamples=500))


def test_a_share_is_the_difference_of_means_paired_by_document() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, 400).astype(float)
    defended = base.copy()
    defended[np.flatnonzero(base)[:20]] = 0.0
    found = score(base=base.tolist(), defended=defended.tolist())
    assert found.change.value == pytest.approx(-0.05) and found.kept == pytest.approx(defended.sum() / base.sum())
    interval = found.change.interval
    assert interval is not None and interval.low < -0.05 < interval.high < 0
    # unpaired, twice a standard error of .025 would reach beyond 0
    assert interval.high - interval.low < 0.06


def test_a_perplexity_is_weighted_by_its_words_and_compared_by_its_logarithm() -> None:
    weights = [1.0, 9.0]
    found = score(unit="nats", base=[2.0, 9.0], defended=[2.0, 18.0], weights=weights)
    assert log(found.base) == pytest.approx(1.1) and log(found.defended) == pytest.approx(2.0)
    assert found.change.value == pytest.approx(0.9) and found.kept == pytest.approx(np.exp(-0.9))
    assert found.change.interval is not None and 0 <= found.change.interval.low < 0.9 < found.change.interval.high <= 1


def test_nothing_changed_is_exactly_zero() -> None:
    same = score(base=[1.0, 0.0, 1.0], defended=[1.0, 0.0, 1.0])
    assert same.change.value == 0.0 and same.kept == 1.0 and same.change.interval is not None
    loss = score(unit="nats", base=[3.0, 4.0], defended=[3.0, 4.0], weights=[2.0, 2.0])
    assert loss.change.value == 0.0 and loss.kept == 1.0 and loss.change.interval is None


def test_documents_of_one_cluster_are_one_draw() -> None:
    alone = score(base=[1.0] * 40, defended=[0.0] * 10 + [1.0] * 30)
    together = score(base=[1.0] * 40, defended=[0.0] * 10 + [1.0] * 30, clusters=[str(i // 10) for i in range(40)])
    widths = [i.high - i.low for i in (alone.change.interval, together.change.interval) if i]
    assert len(widths) == 2 and widths[1] > 1.5 * widths[0]


def test_of_nothing_nothing_can_be_kept() -> None:
    assert score(base=[0.0, 0.0], defended=[0.0, 1.0]).kept is None


@pytest.mark.parametrize("changes", [{"defended": [1.0]}, {"base": [], "defended": []}, {"weights": [1.0]}])
def test_lists_that_are_not_of_the_same_documents_are_no_record(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        score(**{"base": [1.0, 0.0], "defended": [1.0, 0.0], **changes})
