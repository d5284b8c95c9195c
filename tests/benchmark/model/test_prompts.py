"""Every prompt begins with one BOS or with none, as the suite says; chats are the same text on any day."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from benchmark.contracts.example import Example
from benchmark.errors import UsageError
from benchmark.model.prompts import TODAY, adds_bos, chat_tokens, prompt_tokens, rendered, set_bos, template_identity
from benchmark.model.subject import Subject
from benchmark.readouts.choices import Choices
from benchmark.readouts.continuation import Continuation
from tests import tiny

EXAMPLE = Example("e", "c", "w5 w6", ("w7", "w8"), 0, (1,))
TURNS = [{"role": "user", "content": "w5 w6"}]
PLAIN = "{% for m in messages %}w3 {{ m['content'] }} w4 {% endfor %}"
WITH_BOS = "{{ bos_token }} " + PLAIN
DATED = "{{ strftime_now('%d w5 %Y') }} " + PLAIN


def chatting(template: str) -> Any:
    made = tiny.tokenizer()
    made.chat_template = template
    return made


@pytest.mark.parametrize("order", [(False, True), (True, False, False, True), (True, True)])
def test_the_policy_can_be_set_and_set_back(order: tuple[bool, ...]) -> None:
    made = tiny.tokenizer()
    assert adds_bos(made)
    for wanted in order:
        set_bos(made, wanted)
        assert adds_bos(made) is wanted
        assert made("w5 w6")["input_ids"] == [1] * wanted + [5, 6]
        assert made("w5", add_special_tokens=False)["input_ids"] == [5]
        assert Choices().encode(made, EXAMPLE).tokens == (1,) * wanted + (5, 6)


@pytest.mark.parametrize("template", [PLAIN, WITH_BOS])
@pytest.mark.parametrize("bos", [True, False])
def test_a_chat_begins_with_one_bos_whoever_writes_it(template: str, bos: bool) -> None:
    made = chatting(template)
    set_bos(made, bos)
    tokens = Continuation(chat=True).encode(made, EXAMPLE).tokens
    assert tokens.count(1) == (bos or template == WITH_BOS), "what a template writes is part of its form"
    assert tokens[tokens.count(1) :] == (3, 5, 6, 4)


def test_a_second_bos_and_a_prompt_of_one_token_are_told() -> None:
    made = tiny.tokenizer()
    with pytest.raises(UsageError, match="e: the prompt begins with '<bos>' twice; leave it out"):
        prompt_tokens(made, "<bos> w5 w6", "e")
    with pytest.raises(UsageError, match="e: the prompt is 1 token"):
        prompt_tokens(made, "", "e")
    set_bos(made, False)
    assert prompt_tokens(made, "<bos> w5 w6", "e") == (1, 5, 6)
    assert chat_tokens(made, "<bos> w5", "e") == (1, 5)


def test_a_tokenizer_without_bos_cannot_begin_with_it() -> None:
    made = tiny.tokenizer()
    set_bos(made, False)
    made.bos_token = None
    assert not adds_bos(made)
    with pytest.raises(UsageError, match="has no BOS token; leave `bos` out"):
        set_bos(made, True)


def test_a_dated_template_is_the_same_on_any_day() -> None:
    made = chatting(DATED)
    today = datetime.datetime.now().strftime("%d w5 %Y")
    assert today in made.apply_chat_template(TURNS, tokenize=False), "or the test means nothing"
    assert rendered(made, TURNS).startswith(TODAY.strftime("%d w5 %Y"))
    by_name = chatting("{% set form = '%d' %}{{ strftime_now(form) }}")
    with pytest.raises(UsageError, match="write a fixed date into chat_template.jinja"):
        rendered(by_name, TURNS)
    if_there = "{% if strftime_now is defined %}{{ strftime_now('%d w5 %Y') }}{% else %}w9{% endif %}"
    assert rendered(chatting(if_there), TURNS) == TODAY.strftime("%d w5 %Y")


def test_no_template_where_a_chat_is_asked_for_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="leave `chat` out, or put the model's chat_template.jinja"):
        Continuation(chat=True).encode(tiny.tokenizer(), EXAMPLE)


def test_what_a_template_renders_and_the_policy_are_part_of_the_model() -> None:
    def subject(made: Any, own: bool = True) -> Subject:
        return Subject(tiny.model(), made, "tiny", own_bos=own)

    without = tiny.tokenizer()
    set_bos(without, False)
    known = {
        subject(tiny.tokenizer()).weights_sha,
        subject(chatting(PLAIN)).weights_sha,
        subject(chatting(WITH_BOS)).weights_sha,
        subject(without, own=False).weights_sha,
    }
    assert len(known) == 4
    assert template_identity(chatting(PLAIN)) != template_identity(chatting("you are kind " + PLAIN))
    assert template_identity(tiny.tokenizer()) is None
    assert subject(without).bos is False and subject(tiny.tokenizer()).bos is True
