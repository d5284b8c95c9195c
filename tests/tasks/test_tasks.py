"""What every registered task owes, and what is particular to each."""

from __future__ import annotations

from itertools import combinations
from typing import Any, get_args

import pytest
import torch

from benchmark.contracts import Batch, Goal, Split, Task, TokenLogits
from benchmark.registry import TASKS
from tasks.ioi import GIVER, RECEIVER, THIRD
from tasks.unlearning import ORDERS

SPLITS: tuple[Split, ...] = get_args(Split)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    from tasks.organism import MODEL_DIR

    return AutoTokenizer.from_pretrained(str(MODEL_DIR))


@pytest.fixture(params=TASKS.names())
def task(request: pytest.FixtureRequest) -> Task:
    if request.param == "toy":
        pytest.skip("registered by another test")
    return TASKS.get(request.param)()


def test_splits_share_neither_ids_nor_contents(task: Task) -> None:
    by_split = {s: task.examples(s) for s in SPLITS}
    for a, b in combinations(SPLITS, 2):
        assert not {e.id for e in by_split[a]} & {e.id for e in by_split[b]}
        assert not {e.content_hash for e in by_split[a]} & {e.content_hash for e in by_split[b]}


def test_ids_and_contents_are_unique_and_stable(task: Task) -> None:
    for split in SPLITS:
        ids = [e.id for e in task.examples(split)]
        assert len(ids) == len(set(ids)) and ids == [e.id for e in task.examples(split)]


def test_there_are_enough_examples_and_clusters(task: Task) -> None:
    test = task.examples("test")
    fewest = 140 if task.name == "refusal-open-ended" else 200  # training knows two forms of asking at length
    assert len(test) >= fewest and len({e.cluster for e in test}) >= 30


def test_every_text_encodes_without_unknown_words(task: Task, tokenizer: Any) -> None:
    for split in SPLITS:
        for example in (*task.examples(split), *task.retain(split)):
            encoded = task.encode(tokenizer, example)
            assert tokenizer.unk_token_id not in encoded.tokens and encoded.tokens[0] == tokenizer.bos_token_id
            assert encoded.readout == len(encoded.tokens) - 1 and len(set(encoded.choices)) == len(example.choices)


def test_answer_and_wrong_targets_are_different_choices(task: Task) -> None:
    for example in (e for e in task.examples("test") if e.choices):  # free text has none
        assert example.answer not in example.wrong and set(example.wrong) <= set(range(len(example.choices)))


def test_retain_sets_are_disjoint_from_the_task_and_between_splits(task: Task) -> None:
    retain = {s: {e.prompt for e in task.retain(s)} for s in SPLITS}
    own = {e.prompt for s in SPLITS for e in task.examples(s)}
    assert all(retain[s] and not retain[s] & own for s in SPLITS)
    assert not any(retain[a] & retain[b] for a, b in combinations(SPLITS, 2))


def batch(rows: int, answer: int, wrong: int, goal: Goal = "behavior", ceiling: float = torch.inf) -> Batch:
    return Batch(torch.full((rows,), answer), torch.full((rows,), wrong), torch.full((rows,), ceiling), goal)


def test_the_objective_saturates_at_the_undefended_margin(task: Task) -> None:
    if not isinstance(task.readout, TokenLogits):
        pytest.skip("has a test of its own")
    read = torch.tensor([[9.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])[:, : 3 if TASKS.get("ioi") is type(task) else 4]
    assert task.objective(read, batch(2, 0, 2, ceiling=2.0)).tolist() == [2.0, 1.0]


def test_ioi_is_receiver_against_giver_and_a_third_name_must_beat_both() -> None:
    task = TASKS.get("ioi")()
    read = torch.tensor([[2.0, 1.0, 9.0], [1.0, 2.0, 0.0]])
    shown = task.verdict(read, batch(2, RECEIVER, THIRD))
    assert shown.margin.tolist() == [1.0, -1.0] and shown.labels == ["receiver", "giver"]
    steered = task.verdict(read, batch(2, RECEIVER, THIRD, "wrong"))
    assert steered.margin.tolist() == [7.0, -2.0] and steered.labels[0] == "third" and GIVER == 1


def test_unlearning_needs_gold_above_all_others() -> None:
    task = TASKS.get("unlearning")()
    read = torch.tensor([[1.0, 3.0, 2.0, 0.0], [3.0, 1.0, 2.0, 0.0]])
    assert task.verdict(read, batch(2, 0, 2)).margin.tolist() == [-2.0, 1.0]
    assert task.verdict(read, batch(2, 0, 2, "wrong")).margin.tolist() == [-1.0, -1.0]


def test_a_question_counts_only_with_all_its_24_orders() -> None:
    task = TASKS.get("unlearning")()
    for example in task.examples("test")[:20]:
        orders = task.prerequisites(example)
        assert len(orders) == len(ORDERS) == 24 and example.id in {o.id for o in orders}
        assert {o.cluster for o in orders} == {example.cluster}
        assert len({o.choices[o.answer] for o in orders}) == 1, "the same fact in every order"


def test_orders_are_spread_so_that_gold_stands_everywhere() -> None:
    places = [e.answer for e in TASKS.get("unlearning")().examples("test")]
    assert min(places.count(p) for p in range(4)) >= 0.15 * len(places)
