"""How many examples a suite takes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.contracts.example import Split
from benchmark.errors import UsageError
from benchmark.run.prepare import _sampled, spread
from benchmark.suite import Suite, TaskSettings, load_suite
from tests.tiny import ToyTask, suite_file

SPLITS: tuple[Split, ...] = ("fit", "dev", "test")


@pytest.mark.parametrize(
    ("examples", "limit", "size"), [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (9, 7, 7)]
)
def test_a_suite_takes_the_smaller_of_its_size_and_the_limit(
    suite: Suite, examples: int | None, limit: int | None, size: int | None
) -> None:
    settings: TaskSettings = suite.tasks["toy"].model_copy(update={"examples": examples})
    assert suite.model_copy(update={"tasks": {"toy": settings}}).size("toy", limit) == size


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return load_suite(str(suite_file(tmp_path_factory.mktemp("suite"))))


def test_a_sample_without_a_limit_is_refused(suite: Suite, tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="`sample` needs a `limit`"):
        load_suite(str(suite_file(tmp_path, sample=3)))
    allowed = load_suite(str(suite_file(tmp_path, sample=3, limit=5)))
    assert (allowed.sample, allowed.limit) == (3, 5) and (suite.sample, suite.limit) == (None, None)


def test_a_sample_thins_every_split_but_test_and_leaves_the_task_as_it_was() -> None:
    task = ToyTask()
    before = [(list(task.examples(split)), list(task.retain(split))) for split in SPLITS]
    few = _sampled(task, 3)
    for split, (examples, retain) in zip(SPLITS, before, strict=True):
        assert list(few.examples(split)) == (examples if split == "test" else list(spread(examples, 3)))
        assert list(few.retain(split)) == list(spread(retain, 3)) and len(few.retain(split)) == 3
        assert (list(task.examples(split)), list(task.retain(split))) == (examples, retain)
    assert few is not task and not vars(task) and few.name == task.name
    assert len(_sampled(task, 99).examples("fit")) == 24


@pytest.mark.parametrize("limit", [1, 3, 7, 24, 25, None])
def test_a_sample_is_spread_evenly_over_the_whole_list(limit: int | None) -> None:
    everything = ToyTask().examples("test")
    taken = [everything.index(e) for e in spread(everything, limit)]
    assert len(taken) == min(limit or 24, 24) == len(set(taken)) and taken == sorted(taken)
    gaps = {b - a for a, b in zip([*taken, 24], [*taken[1:], 24], strict=False) if b > a}
    assert max(gaps) - min(gaps) <= 1, "no cluster is cut off"
