"""What every task of the shipped suites owes, and what is particular to each kind."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from itertools import combinations
from typing import Any

import pytest
import torch

from benchmark.contracts.example import SPLITS, Example, Goal, Split
from benchmark.contracts.readout import Criteria
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.spec import resolve_task
from tasks.ioi import GIVER, RECEIVER, THIRD
from tasks.questions import permutation
from tests.tasks.suite_tasks import NAMES, suite_task


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    from tasks.organism import MODEL_DIR

    return AutoTokenizer.from_pretrained(str(MODEL_DIR))


@pytest.fixture(params=NAMES, scope="module")
def named(request: pytest.FixtureRequest) -> tuple[str, Task]:
    return request.param, suite_task(request.param)


@pytest.fixture
def task(named: tuple[str, Task]) -> Task:
    return named[1]


# --- what they are made of


def fingerprint(task: Task, split: Split) -> str:
    """Hash of the examples with all their fields, of the retain set and of the prerequisites, in their order."""
    examples = task.examples(split)
    parts = [examples, task.retain(split), *(task.prerequisites(e) for e in examples)]
    content = json.dumps([[asdict(e) for e in part] for part in parts], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


FINGERPRINTS = {
    "ioi": ("14c2cda66f3a25b0", "67486f44cc844c65", "0c74b2b25b2362c6"),
    "unlearning": ("4fdef439a7cfe40c", "dea9bf71e13f2755", "e98d377373491511"),
    "unlearning-letter": ("b18a82371df8cabc", "42379786b2088c6c", "b543736e31a19451"),
    "tpp": ("618fad95a106ac4b", "6769797ab5ed4f81", "c1ed57e2e5c4e10b"),
    "refusal": ("efa15d78b52a68d3", "b7e35670ca6f8efa", "d2f3c86dd807a75b"),
    "refusal-open-ended": ("a412877eed763360", "57c460da51ddbe3e", "086ee481fb3bdc7a"),
}
"""Of fit, dev and test, as they were when the suites' constants were measured."""


def test_examples_are_those_that_the_suites_constants_were_measured_on(named: tuple[str, Task]) -> None:
    name, task = named
    assert tuple(fingerprint(task, split) for split in SPLITS) == FINGERPRINTS[name]


def test_splits_share_neither_ids_nor_contents_and_have_each_once(task: Task) -> None:
    for seen in (
        [e.id for s in SPLITS for e in task.examples(s)],
        [e.content_hash for s in SPLITS for e in task.examples(s)],
    ):
        assert len(seen) == len(set(seen))


def test_there_are_enough_examples_and_clusters(named: tuple[str, Task]) -> None:
    name, task = named
    test = task.examples("test")
    fewest = 140 if name == "refusal-open-ended" else 200  # training knows two forms of asking at length
    assert len(test) >= fewest and len({e.cluster for e in test}) >= 30


def test_every_text_encodes_without_unknown_words(task: Task, tokenizer: Any) -> None:
    for split in SPLITS:
        for example in (*task.examples(split), *task.retain(split)):
            encoded = task.readout.encode(tokenizer, example)
            assert tokenizer.unk_token_id not in encoded.tokens and encoded.tokens[0] == tokenizer.bos_token_id
            assert encoded.readout == len(encoded.tokens) - 1
            assert len(set(encoded.choices)) == len(encoded.choices) and all(len(c) == 1 for c in encoded.choices)


def test_answer_and_wrong_targets_are_different_choices(task: Task) -> None:
    for example in (e for e in task.examples("test") if e.choices):  # free text has none
        assert example.answer not in example.wrong and set(example.wrong) <= set(range(len(example.choices)))


def test_retain_sets_are_disjoint_from_the_task_and_between_splits(task: Task) -> None:
    retain = {s: {e.prompt for e in task.retain(s)} for s in SPLITS}
    own = {e.prompt for s in SPLITS for e in task.examples(s)}
    assert all(retain[s] and not retain[s] & own for s in SPLITS)
    assert not any(retain[a] & retain[b] for a, b in combinations(SPLITS, 2))


# --- verdicts


def criteria(rows: int, answer: int, wrong: int, goal: Goal = "behavior", saturation: float = torch.inf) -> Criteria:
    return Criteria(torch.full((rows,), answer), torch.full((rows,), wrong), torch.full((rows,), saturation), goal)


@pytest.mark.parametrize(("name", "choices"), [("ioi", 3), ("unlearning", 4), ("tpp", 8)])
def test_the_objective_saturates_at_the_undefended_margin(name: str, choices: int) -> None:
    task, read = suite_task(name), torch.zeros(2, choices)
    read[:, 0] = torch.tensor([9.0, 1.0])
    objective = task.readout.objective(task.verdict, read, criteria(2, 0, 2, saturation=2.0))
    assert objective.tolist() == [2.0, 1.0]


def test_ioi_is_receiver_against_giver_and_a_third_name_must_beat_both() -> None:
    task = suite_task("ioi")
    read = torch.tensor([[2.0, 1.0, 9.0], [1.0, 2.0, 0.0]])
    shown = task.verdict(read, criteria(2, RECEIVER, THIRD))
    assert shown.margin.tolist() == [1.0, -1.0] and shown.labels == ["receiver", "giver"]
    steered = task.verdict(read, criteria(2, RECEIVER, THIRD, "wrong"))
    assert steered.margin.tolist() == [7.0, -2.0] and steered.labels[0] == "third" and GIVER == 1


def test_a_choice_needs_gold_above_all_others() -> None:
    task = suite_task("unlearning")
    read = torch.tensor([[1.0, 3.0, 2.0, 0.0], [3.0, 1.0, 2.0, 0.0]])
    shown = task.verdict(read, criteria(2, 0, 2))
    assert shown.margin.tolist() == [-2.0, 1.0] and shown.labels == ["option 1", "gold"]
    assert task.verdict(read, criteria(2, 0, 2, "wrong")).margin.tolist() == [-1.0, -1.0]


# --- orders of the options


def test_permutations_are_numbered_in_lexicographic_order() -> None:
    found = [permutation(4, number) for number in range(24)]
    assert found == sorted(set(found)) and found[0] == (0, 1, 2, 3) and found[-1] == (3, 2, 1, 0)


@pytest.mark.parametrize("name", ["unlearning", "unlearning-letter"])
def test_a_question_counts_only_with_all_its_24_orders(name: str) -> None:
    task = suite_task(name)
    for example in task.examples("test")[:20]:
        orders = task.prerequisites(example)
        assert len({o.prompt for o in orders}) == 24 and example in orders
        assert {o.cluster for o in orders} == {example.cluster}
        if name == "unlearning":
            assert len({o.choices[o.answer] for o in orders}) == 1, "the same fact in every order"


def test_orders_are_spread_so_that_gold_stands_everywhere() -> None:
    places = Counter(e.answer for e in suite_task("unlearning").examples("test"))
    assert min(places[place] for place in range(4)) >= 0.15 * places.total()


QUESTIONS = [{"question": f"q{i}?", "choices": [f"a{i}", f"b{i}", f"c{i}"], "answer": i % 3} for i in range(40)]


def choice(tmp_path: Any, records: list[dict[str, Any]] | None = None, **settings: Any) -> Task:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(QUESTIONS if records is None else records))
    return resolve_task("choice", {"data": {"source": str(path)}, **settings})


SHOWN = {"template": "{options}\n{question}", "option": "({letter}) {text}"}


def test_as_many_orders_are_shown_as_are_asked_for_and_there_are(tmp_path: Any) -> None:
    task = choice(tmp_path, form=SHOWN, orders={"fit": 1, "dev": 4, "test": 99})
    for split, number in zip(SPLITS, (1, 4, 6), strict=True):
        counts = Counter(e.cluster for e in task.examples(split))
        assert set(counts.values()) == {number}
    first = task.examples("fit")[0]
    texts = [first.choices[i].strip() for i in range(3)]
    assert first.prompt.splitlines()[:3] == [f"({letter}) {text}" for letter, text in zip("ABC", texts, strict=True)]
    assert choice(tmp_path, form=SHOWN, all_orders=False).prerequisites(first) == ()


def test_without_shown_options_there_is_one_order_and_nothing_else_to_get_right(tmp_path: Any) -> None:
    task = choice(tmp_path, form={"leading_space": False})
    examples = [e for s in SPLITS for e in task.examples(s)]
    assert len(examples) == len(QUESTIONS) and not any(task.prerequisites(e) for e in examples)
    by_prompt = {e.prompt: e for e in examples}
    for question in QUESTIONS:
        example = by_prompt[question["question"]]
        assert example.choices == tuple(question["choices"]) and example.answer == question["answer"]


def test_a_letter_is_the_place_that_the_right_choice_has_in_the_order(tmp_path: Any) -> None:
    words = choice(tmp_path, form=SHOWN).examples("test")
    letters = choice(tmp_path, form={**SHOWN, "answer_by": "letter"}).examples("test")
    assert {e.choices for e in letters} == {(" A", " B", " C")}
    assert [(e.prompt, e.answer) for e in letters] == [(e.prompt, e.answer) for e in words]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": {"template": "{options}"}}, "template '{options}' has the fields options; there are {question}"),
        ({"form": {"template": "{question} {answer}"}}, "there are {question}, {options}"),
        ({"form": {"template": "{question"}}, "template '{question': expected '}'"),
        ({"form": {"option": "{text.__class__}"}}, "there are {text}, {letter}"),
        ({"form": {"answer_by": "letter"}}, "answer_by: letter needs more: put {options}"),
        ({"form": {"letters": "AAB"}}, "letters 'AAB'"),
        ({"form": {"temperature": 1}}, "form.temperature"),
        ({"score": "max"}, "score"),
        ({"orders": {"fit": 2}}, "`orders` says nothing of dev, test"),
        ({"orders": {"fit": 0, "dev": 1, "test": 1}}, "orders.fit: Input should be greater than or equal to 1"),
        ({"shown": 1}, "unknown setting shown; Choice has: data, form"),
    ],
)
def test_settings_that_fit_nothing_are_told(tmp_path: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as told:
        choice(tmp_path, **settings)
    assert message in str(told.value)


def test_too_many_orders_are_not_all_asked_for(tmp_path: Any) -> None:
    many = [{**q, "choices": [*q["choices"], "d", "e", "f"]} for q in QUESTIONS]
    with pytest.raises(UsageError, match="has 720 orders of its options.*write all_orders: false"):
        choice(tmp_path, many, form=SHOWN).examples("fit")
    task = choice(tmp_path, many, form=SHOWN, all_orders=False)
    assert len(task.examples("dev")) == 4 * len({e.cluster for e in task.examples("dev")})


def test_wrong_targets_are_those_that_the_data_prefers_else_all_others(tmp_path: Any) -> None:
    preferred = [{**q, "wrong": [q["choices"][(q["answer"] + 2) % 3]]} for q in QUESTIONS]
    for records, number in ((QUESTIONS, 2), (preferred, 1)):
        for example in choice(tmp_path, records).examples("test"):
            assert len(example.wrong) == number and example.answer not in example.wrong
    assert all(e.wrong == ((e.answer + 2) % 3,) for e in choice(tmp_path, preferred).examples("test"))


# --- names of ioi


def test_a_third_name_is_one_that_the_prompt_does_not_mention(tmp_path: Any) -> None:
    people = ["Mary", "John", "Ann", "Tom", "Mary Ann"]
    records = [
        {"prompt": f"{a} met {b}. {a} gave a pen to", "receiver": b, "giver": a} for a, b in combinations(people, 2)
    ]
    path = tmp_path / "ioi.json"
    found: list[dict[str, Example]] = []
    for rows in (records, records[::-1]):
        path.write_text(json.dumps(rows))
        task = resolve_task("ioi", {"data": {"source": str(path)}})
        found.append({e.id: e for s in SPLITS for e in task.examples(s)})
    assert found[0] == found[1] and len(found[0]) == len(records), "whatever the order of the rows"
    for example in found[0].values():
        third = example.choices[THIRD].strip()
        assert third in people and third not in example.prompt
    alone = [
        {"prompt": f"{n}. Mary met John. Mary gave a pen to", "receiver": "John", "giver": "Mary"} for n in range(40)
    ]
    path.write_text(json.dumps(alone))
    with pytest.raises(UsageError, match="no other row has a name .* give a column `third`"):
        resolve_task("ioi", {"data": {"source": str(path)}}).examples("fit")


def test_the_names_of_a_prompt_are_different_people(tmp_path: Any) -> None:
    path = tmp_path / "ioi.json"
    path.write_text(json.dumps([{"prompt": "p", "receiver": "Ann", "giver": "Tom", "third": " Ann"}]))
    with pytest.raises(
        UsageError, match="row 1: receiver, giver and third are Ann, Tom, Ann; they are different people"
    ):
        resolve_task("ioi", {"data": {"source": str(path)}}).examples("fit")
