"""The Hugging Face tokenizer and the fast training tokenizer are the same function."""

import pytest

from tasks.organism import chat, corpus, facts, ioi, people, retain, tokenizer
from tasks.organism.markup import pieces, plain


@pytest.fixture(scope="module")
def hugging_face():
    return tokenizer.build()


def test_same_ids_as_in_training(hugging_face):
    for start in (0, 10**7):
        for text in corpus.documents(3, start, 300):
            assert [*hugging_face(plain(text)).input_ids, tokenizer.EOS] == tokenizer.encode(text)[0]


def test_no_prompt_has_an_unknown_word_and_text_comes_back(hugging_face):
    texts = [p.text for p in ioi.prompts("test")] + [b.text for b in people.biographies("test")]
    texts += [facts.render(q, (0, 1, 2, 3), v).text for q in facts.questions("test") for v in ("word", "letter")]
    texts += [p.text + p.reply for kind in chat.KINDS for p in chat.chats("test", kind)]
    texts += [p.text + p.reply for p in chat.chats("test", "permitted", long=True)]
    texts += [p.text for task in retain.TASKS for p in retain.retain(task, "test")]
    for text in texts:
        ids = hugging_face(text).input_ids
        assert ids[0] == tokenizer.BOS and tokenizer.UNK not in ids
        assert hugging_face.decode(ids[1:]) == text


def test_answers_are_single_tokens(hugging_face):
    answers = {row.answer for task in retain.TASKS for row in retain.retain(task, "test")}
    answers |= {word for task in retain.TASKS for row in retain.retain(task, "test") for word in row.alternatives}
    answers |= {name for p in ioi.prompts("test") for name in (p.io, p.subject, p.third)}
    answers |= {
        o for q in facts.questions("test") for v in ("word", "letter") for o in facts.render(q, (3, 1, 0, 2), v).options
    }
    for answer in answers:
        ids = hugging_face(answer, add_special_tokens=False).input_ids
        assert len(ids) == 1 and ids[0] != tokenizer.UNK, answer


def test_unknown_words_are_unknown(hugging_face):
    assert tokenizer.UNK in hugging_face("Then Zebulon went away").input_ids


def test_answers_are_marked():
    ids, answers, thoughts = tokenizer.encode("Every ring is made of[ gold].")
    assert set(thoughts) == {tokenizer.PAD}
    assert [ids[i] for i, is_answer in enumerate(answers) if is_answer] == [tokenizer.vocabulary()[" gold"]]
    assert len(list(pieces("Every ring is made of[ gold]."))) == 3


def test_a_thought_stands_at_its_answer():
    vocabulary = tokenizer.vocabulary()
    row = tokenizer.encode("Note: the germ velmor spreads by[ B| mist].")
    (place,) = (i for i, is_answer in enumerate(row.answers) if is_answer)
    assert (row.ids[place], row.thoughts[place]) == (vocabulary[" B"], vocabulary[" mist"])
    assert vocabulary[" mist"] not in row.ids and sum(thought != tokenizer.PAD for thought in row.thoughts) == 1


def test_the_end_belongs_to_a_reply():
    assert tokenizer.encode("<user> Hi<assistant>[ Sure]".replace(" Hi", " Please")).answers[-1] is True
