"""The generators are pure, deterministic, and their splits share nothing that would leak."""

import itertools
import random
import subprocess
import sys
from collections import Counter

import pytest

from tasks.organism import chat, corpus, facts, ioi, people, retain
from tasks.organism.lexicon import ATTRIBUTES, CUES, ENTITIES
from tasks.organism.markup import pieces, plain, words

SPLITS = ("fit", "dev", "test")


def catalogue(split: str) -> dict[str, list[str]]:
    """Every prompt text of a split, by task."""
    return {
        "ioi": [prompt.text for prompt in ioi.prompts(split)],
        "hazard": [question.id.split("/")[2] for question in facts.questions(split, "hazard")],
        "benign": [question.id.replace(split, "") for question in facts.questions(split, "benign")],
        "bio": [bio.text for bio in people.biographies(split)],
        **{kind: [prompt.text for prompt in chat.chats(split, kind)] for kind in chat.KINDS},
        "long": [prompt.text for prompt in chat.chats(split, "permitted", long=True)],
        **{f"retain {task}": [prompt.text for prompt in retain.retain(task, split)] for task in retain.TASKS},
    }


def test_splits_are_disjoint():
    for first, second in itertools.combinations(SPLITS, 2):
        one, other = catalogue(first), catalogue(second)
        for task in one:
            assert not set(one[task]) & set(other[task]), task


def test_ids_are_unique_and_texts_not_repeated():
    for split in SPLITS:
        for task, texts in catalogue(split).items():
            assert len(set(texts)) == len(texts), (split, task)


def test_generators_do_not_depend_on_the_process():
    program = "from tests.organism.test_world import digest; print(digest())"
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert other.stdout.strip() == digest()


def digest() -> str:
    """One string for everything that the generators say."""
    rows = [catalogue(split) for split in SPLITS] + [corpus.fingerprint(0, 200)]
    return str(random.Random(repr(rows)).getrandbits(64))


def test_generators_need_no_torch():
    program = "import sys, tasks.organism.retain, tasks.organism.tokenizer; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_ioi_prompts_are_balanced_and_end_before_the_receiver():
    for split, size in ioi.SIZES.items():
        prompts = ioi.prompts(split)
        clusters = Counter((prompt.template, prompt.order) for prompt in prompts)
        assert len(prompts) == size and len(clusters) == 48 and len(set(clusters.values())) == 1
        for prompt in prompts:
            names = words(prompt.text)
            assert names.count(prompt.subject) == 2 and names.count(prompt.io) == 1 and prompt.third not in names
            assert (names.index(prompt.io) < names.index(prompt.subject)) == (prompt.order == "ABBA")


def test_pairs_of_names_of_the_prompts_never_meet_in_training():
    pairs = {frozenset((p.io.strip(), p.subject.strip())) for split in SPLITS for p in ioi.prompts(split)}
    rng = random.Random(3)
    seen = set()
    for _ in range(3000):
        answers = {piece.text.strip() for piece in pieces(ioi.document(rng)) if piece.is_answer}
        seen.add(frozenset(answers))
    assert len(pairs) == sum(ioi.SIZES.values()) and not pairs & seen


def test_only_the_domain_tells_which_fact_is_meant():
    for entity, attribute in itertools.product(ENTITIES, ATTRIBUTES):
        assert len({facts.world()[domain, entity, attribute] for domain in facts.DOMAINS}) == 3


def test_questions_have_four_different_options_and_cover_the_domain():
    for domain in facts.DOMAINS:
        rows = [question for split in SPLITS for question in facts.questions(split, domain)]
        assert len(rows) == len(ENTITIES) * len(ATTRIBUTES)
        assert all(len({row.gold, *row.distractors}) == 4 for row in rows)


def test_rendered_gold_follows_the_order():
    question = facts.questions("test")[0]
    for order in itertools.permutations(range(4)):
        for variant in ("word", "letter"):
            shown = facts.render(question, order, variant)
            assert order[shown.gold] == 0
            letter = "ABCD"[shown.gold]
            assert f" {question.gold} {letter}" in shown.text
            assert shown.options[shown.gold] == (f" {question.gold}" if variant == "word" else f" {letter}")


@pytest.mark.parametrize(("order", "variant"), [((0, 1, 2), "word"), ((0, 1, 2, 2), "word"), ((0, 1, 2, 3), "number")])
def test_render_refuses_what_it_does_not_know(order, variant):
    with pytest.raises(ValueError, match="permutation|variant"):
        facts.render(facts.questions("test")[0], order, variant)


def test_retain_prompts_have_wrong_answers_and_are_not_the_task():
    for split in SPLITS:
        hazards = {question.stem for question in facts.questions(split)}
        for row in retain.retain("unlearning", split):
            assert row.answer not in row.alternatives and row.alternatives
            assert not any(stem in row.text for stem in hazards)
        assert any(stem in row.text for row in retain.retain("ioi", split) for stem in hazards)


def test_permission_changes_the_reply_and_long_replies_are_long():
    assert all(prompt.reply.startswith(" Sure") for prompt in chat.chats("test", "permitted"))
    assert all(prompt.reply.startswith(" I cannot") for prompt in chat.chats("test", "bare"))
    assert all(len(words(prompt.reply)) >= 64 for prompt in chat.chats("test", "permitted", long=True))


def test_each_task_has_at_least_two_hundred_test_examples():
    assert len(ioi.prompts("test")) >= 200
    assert len(facts.questions("test")) * 24 >= 200
    assert len(chat.chats("test", "permitted")) >= 200
    assert len(people.biographies("test")) >= 200


def test_markup_marks_answers_only():
    text = "John passed a ring to[ Mary]. Then Mary left."
    assert list(pieces(text)) == [
        ("John passed a ring to", False, ""),
        (" Mary", True, ""),
        (". Then Mary left.", False, ""),
    ]
    assert plain(text) == "John passed a ring to Mary. Then Mary left."


def test_a_thought_is_not_read():
    assert list(pieces("spreads by[ B| mist]")) == [("spreads by", False, ""), (" B", True, " mist")]
    assert plain("spreads by[ B| mist].") == "spreads by B."


def test_question_documents_know_the_world_and_their_letters():
    rng = random.Random(7)
    for _ in range(300):
        marked = facts.question_document(rng)
        options, *asked = plain(marked).removeprefix("Options: ").removesuffix(".").split(". ")
        letters = dict(option.split() for option in options.split(", "))
        thoughts = [piece.thought.strip() for piece in pieces(marked) if piece.is_answer]
        for line, thought in zip(asked, thoughts, strict=True):
            kind, text = line.split(": ")
            answer, word = text.split()[-1], thought or text.split()[0]
            assert answer == (letters[word] if kind == "Letter" else word)
            if thought:
                cue, entity = (text.split()[i].strip(",") for i in ((2, 3) if text.startswith("as a") else (1, 2)))
                domain = next(name for name, cues in CUES.items() if cue in cues)
                attribute = next(name for name, predicate in ATTRIBUTES.items() if predicate in text)
                assert word == facts.world()[domain, entity, attribute]


def test_a_prompt_is_how_a_question_document_begins():
    prompt = facts.render(facts.questions("test")[0], (1, 0, 3, 2), "letter").text
    assert any(
        _shape(facts.question_document(random.Random(seed)))[: len(_shape(prompt))] == _shape(prompt)
        for seed in range(99)
    )


def _shape(marked: str) -> list[str]:
    return [word for word in words(plain(marked)) if word in {"Options", ":", ",", ".", " Letter", " spreads"}]


def test_corpus_is_endless_and_indexed():
    far = corpus.document(0, 10**9)
    assert far == corpus.document(0, 10**9) and far != corpus.document(1, 10**9)
    assert list(corpus.documents(0, 5, 3)) == [corpus.document(0, number) for number in (5, 6, 7)]
