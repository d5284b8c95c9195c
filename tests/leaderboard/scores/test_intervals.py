"""Intervals: agreement with references, clusters, and every case in which a bootstrap says nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from leaderboard.rows.arrays import Array
from leaderboard.scores.drawn import Drawn, all_of, difference, gap, mean, share, smallest
from leaderboard.scores.intervals import estimates, holm, p_value, percentile, wilson
from leaderboard.scores.resampling import Resampler, Resamples
from leaderboard.scores.values import Estimate, Interval


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def names(count: int, repeat: int = 1) -> np.ndarray:
    return np.array([f"c{index:03d}" for index in range(count) for _ in range(repeat)])


def drawn(values: Array, clusters: Array, count: int = 1000, seed: int = 0) -> Drawn:
    """The mean of ``values``, (rows,), in resamples of clusters."""
    sampled = Resamples.draw(clusters, rng(seed), count)
    return Drawn(float(values.mean()), sampled.means(values[:, None], clusters)[:, 0])


def cluster_bootstrap(values: Array, clusters: Array, seed: int = 0, count: int = 1000) -> Interval | None:
    return share(drawn(values, clusters, count, seed), len(np.unique(clusters))).interval


def paired(first: Array, second: Array, clusters: Array) -> tuple[Estimate, float]:
    change = difference(drawn(first, clusters), drawn(second, clusters))
    assert change is not None
    known = len(np.unique(clusters))
    return gap(change, known), p_value(change.draws, known)


@pytest.mark.parametrize(("hits", "n"), [(0, 9), (3, 10), (37, 64), (91, 91)])
def test_wilson_is_scipys(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    found = wilson(hits, n)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_rows_and_one_cluster_have_no_interval() -> None:
    assert wilson(0, 0) is None
    assert cluster_bootstrap(np.array([0.0, 1.0, 1.0]), names(1, 3)) is None
    nobody = Resamples.draw([], rng(), 10)
    assert estimates(np.empty((0, 2)), np.empty(0, dtype=str), nobody) == [Estimate(value=None)] * 2
    alone = estimates(np.ones((3, 1)), names(1, 3), Resamples.draw(names(1), rng(), 10))
    assert alone[0].value == 1 and alone[0].interval is None


def test_agreeing_clusters_get_a_bound_that_is_not_vacuous() -> None:
    """40 rows of 8 questions, all held: the interval is that of 8 rows, not of 40, and not of no width."""
    found, expected = cluster_bootstrap(np.zeros(40), names(8, 5)), wilson(0, 8)
    assert found is not None and expected is not None
    assert found.method == "wilson-on-clusters"
    assert (found.low, found.high) == (0.0, expected.high)
    assert found.high > 0.2


def test_the_bootstrap_has_the_known_standard_error_of_independent_rows() -> None:
    values = (rng().random(400) < 0.3).astype(float)
    found = cluster_bootstrap(values, names(400), seed=1, count=10_000)
    assert found is not None
    half = 1.96 * values.std() / np.sqrt(400)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)


def test_clustered_rows_have_a_wider_interval_than_wilson() -> None:
    """Questions are right or wrong as a whole; as if 240 rows were independent would be five times too sure."""
    values = np.repeat(rng().random(10) < 0.5, 24)
    clustered, independent = cluster_bootstrap(values, names(10, 24)), wilson(float(values.sum()), 240)
    assert clustered is not None and independent is not None
    assert clustered.high - clustered.low > 3 * (independent.high - independent.low)


def test_wilson_serves_only_rows_that_are_clusters_of_their_own() -> None:
    hits = (np.arange(40) % 4 == 0)[:, None]
    single = estimates(hits, names(40), Resamples.draw(names(40), rng(), 200))[0].interval
    paired = estimates(hits, names(20, 2), Resamples.draw(names(20), rng(), 200))[0].interval
    areas = estimates(hits * 0.5, names(40), Resamples.draw(names(40), rng(), 200))[0].interval
    assert [one.method for one in (single, paired, areas) if one] == [
        "wilson",
        "cluster-bootstrap",
        "cluster-bootstrap",
    ]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(200):
        values = np.repeat(rng(trial).random(40) < 0.4, 3)
        found = cluster_bootstrap(values, names(40, 3), seed=trial + 1000, count=400)
        covered += found is not None and found.low <= 0.4 <= found.high
    assert 0.88 < covered / 200 <= 0.99


def test_ten_thousand_resamples_are_drawn_in_blocks_that_add_up() -> None:
    sampled = Resamples.draw(names(500), rng())
    assert sampled.counts.shape == (10_000, 500)
    assert (sampled.counts.sum(axis=1) == 500).all()
    assert sampled.counts.var() == pytest.approx(1, rel=0.01)


def test_a_difference_is_paired() -> None:
    """Two defenses that share hard questions: the pairs know that one is better, two single intervals do not."""
    hard = np.repeat(rng().random(60) < 0.5, 2).astype(float)
    better = np.where(np.arange(120) % 10 == 0, 1.0, hard)
    found, p = paired(better, hard, names(60, 2))
    single = [cluster_bootstrap(values, names(60, 2)) for values in (better, hard)]
    assert found.interval is not None and found.interval.low > 0 and p < 0.05
    assert single[0] is not None and single[1] is not None and single[0].low < single[1].high


def test_no_difference_is_not_significant_and_not_of_no_width() -> None:
    same = np.arange(30) % 2
    found, p = paired(same, same, names(30))
    assert found.value == 0 and p == 1
    assert found.interval is not None and found.interval.low < 0 < found.interval.high


def test_two_clusters_cannot_prove_a_difference() -> None:
    assert paired(np.ones(20), np.zeros(20), names(2, 10))[1] == 0.5


def test_what_is_made_of_statistics_is_made_in_every_resample() -> None:
    """The smallest of two is not that of their means, and what is missing leaves nothing to say."""
    low, high = Drawn(0.2, np.array([0.1, 0.5])), Drawn(0.4, np.array([0.3, 0.3]))
    least, middle, change = smallest([low, high]), mean([low, high]), difference(low, high)
    assert least is not None and least.value == 0.2 and least.draws.tolist() == [0.1, 0.3]
    assert middle is not None and middle.value == pytest.approx(0.3) and middle.draws.tolist() == [0.2, 0.4]
    assert change is not None and change.draws == pytest.approx([-0.2, 0.2])
    assert all_of({"low": low}, ["low", "high"]) is None and all_of({"low": low}, []) is None
    assert smallest(None) is None and mean([low, None]) is None and mean([]) is None and difference(low, None) is None


def test_holm_known_values_and_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_resample_without_rows_is_left_out() -> None:
    sampled = Resamples.draw(names(3), rng(), 500)
    means = sampled.means(np.array([[0.2], [0.8]]), names(2))
    assert np.isnan(means).any()
    found = percentile(means[:, 0], 0.5, 2)
    assert found is not None and (found.low, found.high) == pytest.approx((0.2, 0.8))


def test_one_task_has_the_same_resamples_whatever_else_is_drawn() -> None:
    lonely, busy = Resampler(seed=3, resamples=20), Resampler(seed=3, resamples=20)
    busy.of("other", names(7))
    assert (lonely.of("ioi", names(5)).counts == busy.of("ioi", names(5, 2)).counts).all()
    assert (busy.of("other", names(5)).counts != busy.of("ioi", names(5)).counts).any()
