"""Parts of a perturbation are counted once, attack by attack, and by JSON, tables and figures alike."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from leaderboard.figures.replay import replayed
from leaderboard.scores.cells import cell_scores
from leaderboard.scores.outcomes import outcomes
from leaderboard.scores.parts import Attribution, attribution
from leaderboard.scores.resampling import Resampler
from tests.leaderboard.row_factory import NEVER, cell, examples, rows, table

FIRST = [0.05] * 8 + [0.2] * 8 + [NEVER] * 16
ATTRIBUTED: dict[str, Any] = {
    "attr_clamped_share": 0.1,
    "attr_other_share": 0.9,
    "attr_residual_share": 0.5,
    "attr_clamped_recovered": False,
    "attr_other_recovered": True,
    "attr_clamped_equal_recovered": True,
    "attr_random_recovered": 0.25,
    "attr_cos_clamped_other": -0.3,
}


def parts(made: pa.Table) -> Attribution | None:
    return attribution(made, Resampler(resamples=100).of("ioi", outcomes(made).clusters))


def test_attribution_says_what_each_part_recovers_alone() -> None:
    first = {"attr_clamped_recovered": True, "attr_clamped_share": 0.7}
    found = parts(
        table([one | (first if one["example_id"] == "e000" else {}) for one in examples(FIRST, **ATTRIBUTED)])
    )
    assert found is not None and (found.n, found.clusters) == (16, 16)
    clamped, other, residual = (found.parts[name] for name in ("clamped", "other", "residual"))
    assert (clamped.share, clamped.recovered.value, clamped.equal_recovered.value) == (0.1, 1 / 16, 1)
    assert clamped.recovered.interval is not None and clamped.recovered.interval.method == "wilson"
    assert other.recovered.value == 1 and residual.share == 0.5
    assert found.random_recovered.value == 0.25
    assert found.cosines["clamped_other"] == pytest.approx(-0.3) and found.cosines["other_residual"] is None


def test_without_the_pass_there_is_no_attribution_and_old_files_have_no_columns() -> None:
    made = rows(FIRST)
    assert parts(made) is None
    assert parts(made.drop_columns([name for name in made.column_names if name.startswith("attr_")])) is None


def test_shares_of_clusters_are_not_shares_of_rows() -> None:
    found = parts(rows(FIRST, cluster=lambda index: index // 4, **ATTRIBUTED))
    assert found is not None and found.clusters == 4
    interval = found.parts["other"].recovered.interval
    assert interval is not None and interval.method == "wilson-on-clusters"


def test_an_example_counts_for_the_parts_that_it_has_once_at_its_smallest_budget() -> None:
    """16 come back; 4 of them have a clamped part, and it brings 2 back. Larger budgets, on which the part is said to
    do nothing, and the sanity budget do not count."""
    made = []
    for one in examples(FIRST, **ATTRIBUTED):
        index, smallest = int(str(one["example_id"])[1:]), one["budget_eps"] in (0.05, 0.2)
        has = {"attr_clamped_share": 0.4, "attr_clamped_recovered": index < 2 if smallest else False}
        none = dict.fromkeys(("attr_clamped_recovered", "attr_clamped_equal_recovered")) | {"attr_clamped_share": 0.0}
        made.append(one | (has if index < 4 else none))
    found = parts(table(made))
    assert found is not None and (found.n, found.parts["clamped"].n, found.parts["other"].n) == (16, 4, 16)
    assert found.parts["clamped"].recovered.value == 0.5
    diluted = sum(bool(one["attr_clamped_recovered"]) for one in made) / len(made)
    assert diluted < 0.05, "what one gets by counting every row, and empty parts as failures"
    assert found.parts["residual"].n == 0 and found.parts["residual"].recovered.value is None


def test_attacks_are_not_pooled_and_the_figure_has_the_numbers_of_the_file() -> None:
    """What the clamped part does before the edit is its doing there; behind it there is no such part."""
    behind = {"attr_clamped_recovered": None, "attr_clamped_equal_recovered": None, "attr_clamped_share": 0.0}
    before: dict[str, Any] = ATTRIBUTED | {"attr_clamped_recovered": True}
    after: dict[str, Any] = ATTRIBUTED | behind | {"threat_model": "after_edit"}
    cells = [cell(rows(FIRST, **way)) for way in (before, after)]
    resampler = Resampler(resamples=100)
    drawn = replayed(cells, resampler)
    assert list(drawn) == ["recovery\nbefore edit", "recovery\nafter edit"]
    filed = [cell_scores(one, resampler.of("ioi", outcomes(one.rows).clusters)).attribution for one in cells]
    assert list(drawn.values()) == filed
    assert [one.parts["clamped"].recovered.value for one in drawn.values()] == [1, None]
    assert replayed([cell(rows(FIRST))], resampler) == {}
