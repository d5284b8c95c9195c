"""The source of plain English: its splits share nothing that would leak, and what it asks has one right answer."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest

from benchmark.contracts.example import SPLITS
from benchmark.errors import UsageError
from benchmark.spec import resolve_task
from tasks.english import facts, held_out, occupations, people, programs
from tasks.english.source import FRESH, ITEMS, fresh, records

QUESTIONS = ("chemistry", "general")
CLUSTERED = (*QUESTIONS, "programs", "explanations")
"""Items of which no split may know anything about another's clusters."""


def split_of(item: str, split: str) -> list[Any]:
    return [record for record in records(item) if record["split"] == split]


def text(record: Any) -> str:
    return record.get("prompt") or record.get("question") or record["text"]


@pytest.mark.parametrize("item", ITEMS)
def test_no_text_and_no_id_is_there_twice(item: str):
    assert max(Counter(record["id"] for record in records(item)).values()) == 1
    assert max(Counter(text(record) for record in records(item)).values()) == 1
    assert {record["split"] for record in records(item)} == set(SPLITS)


@pytest.mark.parametrize("item", CLUSTERED)
def test_no_subject_is_in_two_splits(item: str):
    clusters = {split: {record["cluster"] for record in split_of(item, split)} for split in SPLITS}
    assert not any(clusters[a] & clusters[b] for a, b in combinations(SPLITS, 2))


def test_what_is_known_of_an_element_is_one_cluster():
    about = {
        record["cluster"] for record in records("chemistry") if "gold" in record["id"] or record["answer"] == "gold"
    }
    assert about == {"gold"}


@pytest.mark.parametrize("item", QUESTIONS)
def test_a_question_has_one_right_answer_and_does_not_give_it_away(item: str):
    right: dict[tuple[str, str], set[str]] = {}
    for fact in facts.known():
        right.setdefault((fact.relation, fact.subject), set()).add(fact.answer)
    for record in records(item):
        relation, subject = record["id"].split("/")[:2]
        wrong = [choice for choice in record["choices"] if choice != record["answer"]]
        assert len(record["choices"]) == len(set(record["choices"])) == facts.OTHERS + 1
        assert record["wrong"][0] in wrong
        assert not right[relation, subject] & set(wrong), record
        assert f" {record['answer']} " not in f" {record['question']} ", record


def test_the_sentences_name_the_two_people_and_not_the_third():
    for prompt in people.prompts("test"):
        words = prompt.text.replace(",", " ").replace(".", " ").split()
        assert words.count(prompt.giver) == 2 and words.count(prompt.receiver) == 1 and prompt.third not in words


def test_both_orders_and_all_templates_are_there_equally_often():
    for split in SPLITS:
        counts = Counter(prompt.form for prompt in people.prompts(split))
        assert len(counts) == 2 * len(people.TEMPLATES) and max(counts.values()) - min(counts.values()) <= 1


def test_every_form_of_a_request_is_there_and_none_is_about_two_things():
    for item, forms in (("programs", programs.REQUESTS), ("explanations", programs.QUESTIONS)):
        for split in SPLITS:
            asked = {record["prompt"]: record["cluster"] for record in split_of(item, split)}
            used = {form for prompt, about in asked.items() for form in forms if form.format(about) == prompt}
            assert used == set(forms) and max(Counter(asked.values()).values()) == programs.ASKED


def test_a_portrait_does_not_name_its_occupation():
    for split in SPLITS:
        found = occupations.portraits(split)
        assert not any(name in portrait.text.lower() for portrait in found for name in occupations.WORDS)
        assert len(set(Counter(portrait.occupation for portrait in found).values())) == 1


@pytest.mark.parametrize("item", FRESH)
def test_fresh_records_are_in_no_split_and_made_from_their_key(item: str):
    made = fresh(item, "a key", 40)
    known = {text(record) for record in records(item)}
    assert len(made) == 40 and not known & {text(record) for record in made}
    assert made == fresh(item, "a key", 40)
    assert made != fresh(item, "another key", 40)


def test_fresh_questions_ask_only_what_test_asks():
    asked = {record["cluster"] for record in split_of("chemistry", "test")}
    assert {record["cluster"] for record in fresh("chemistry", "a key", 40)} <= asked


def test_a_task_gets_them_as_fresh_examples():
    task = resolve_task("choice", {"data": {"source": "english:chemistry"}, "form": {"answer_is": "text"}})
    shown = {example.prompt for split in SPLITS for example in task.examples(split)}
    made = task.fresh("a key", 20)
    assert len(made) == 20 and not shown & {example.prompt for example in made}


def test_an_item_that_is_not_there_is_told():
    with pytest.raises(UsageError, match="no item 'physics'; it has: people"):
        records("physics")


@pytest.mark.parametrize("name", held_out.FILES)
def test_a_file_for_lm_eval_is_what_the_generators_make(name: str):
    assert (held_out.FOLDER / name).read_text(encoding="utf-8") == held_out.written(name)


def test_what_lm_eval_is_given_is_in_no_split():
    known = {text(record) for item in ITEMS for record in records(item)}
    asked = [row["text"] for file in held_out.FILES.values() for row in file()]
    assert len(asked) == len(set(asked)) == held_out.QUESTIONS + held_out.PORTRAITS and not known & set(asked)
