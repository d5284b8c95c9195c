"""Questions with choices, and the form in which they are put to a model."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial
from typing import Literal

from benchmark.contracts.example import Example, Split
from benchmark.errors import UsageError
from tasks.data import NOTHING, Columns, Data, Examples, Row

COLUMNS = Columns(("question", "choices", "answer"), ("wrong",), frozenset({"choices", "wrong"}))
"""As WMDP and MMLU have them."""
_DIGITS = string.digits + string.ascii_lowercase
"""What a choice is called in the id of an order."""


@dataclass(frozen=True)
class Question:
    """One question; choices without a leading space, in the order of the data."""

    id: str
    cluster: str
    text: str
    choices: tuple[str, ...]
    answer: int
    wrong: tuple[int, ...]
    """Choices that may be the matched wrong target, by preference."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a question is put to a model, and what its choices are as answers."""

    template: str = "{question}"
    """The prompt, of {question} and, where they are to be shown, {options}."""
    option: str = "{letter}. {text}"
    """One of the options, of {text} and {letter}."""
    separator: str = "\n"
    """Between options."""
    answer_by: Literal["word", "letter"] = "word"
    """The text of a choice, or its letter."""
    letters: str = string.ascii_uppercase
    """The letter of each option, in the order in which they are shown."""
    leading_space: bool = True
    """An answer begins with a space."""
    answer_is: Literal["any", "text", "letter", "index"] = "any"
    """How the data names the right choice (and wrong ones): by its text, its letter, or its index from 0; any: however
    it can be read, and an error where that is ambiguous."""

    def __post_init__(self) -> None:
        _check_fields("template", self.template, needed=("question",), allowed=("question", "options"))
        _check_fields("option", self.option, needed=(), allowed=("text", "letter"))
        if self.answer_by == "letter" and "letter" not in _fields(self.option if self.shows_options else ""):
            raise UsageError("answer_by: letter needs more: put {options} in `template` and {letter} in `option`")
        if len(set(self.letters)) < max(len(self.letters), 2):
            raise UsageError(f"letters {self.letters!r}: give at least two, all different")

    @property
    def shows_options(self) -> bool:
        """Else a question has no order of its choices."""
        return "options" in _fields(self.template)

    def orders(self, question: Question) -> int:
        """In how many orders the choices can be shown."""
        return factorial(len(question.choices)) if self.shows_options else 1

    def example(self, question: Question, number: int) -> Example:
        """The question with its choices in the order ``number``, of all in lexicographic order."""
        order = permutation(len(question.choices), number % self.orders(question))
        shown = [question.choices[i] for i in order]
        letters = self.letters[: len(order)]
        options = [self.option.format(text=t, letter=c) for t, c in zip(shown, letters, strict=False)]
        space = " " if self.leading_space else ""
        name = f"/{self.answer_by}-{''.join(_DIGITS[i] for i in order)}" if self.shows_options else ""
        return Example(
            id=f"{question.id}{name}",
            cluster=question.cluster,
            prompt=self.template.format(question=question.text, options=self.separator.join(options)),
            choices=tuple(f"{space}{answer}" for answer in (shown if self.answer_by == "word" else letters)),
            answer=order.index(question.answer),
            wrong=tuple(order.index(i) for i in question.wrong),
        )


def permutation(size: int, number: int) -> tuple[int, ...]:
    """The ``number``-th permutation of ``range(size)``, from 0, in lexicographic order."""
    rest, found = list(range(size)), []
    for left in range(size - 1, -1, -1):
        place, number = divmod(number, factorial(left))
        found.append(rest.pop(place))
    return tuple(found)


def read_questions(data: Data, form: Form) -> dict[Split, list[Question]]:
    """The questions of each split, in the order of the data.

    Raises:
        UsageError: a row is not a question with one right choice.
    """
    return data.read(COLUMNS, lambda row: question_of(row, form))


def retained(data: Data | None, form: Form) -> Examples:
    """Every question of a retain set once; where options are shown, their order differs from question to question."""
    if data is None:
        return NOTHING
    return {
        split: [form.example(question, number) for number, question in enumerate(questions)]
        for split, questions in read_questions(data, form).items()
    }


def question_of(row: Row, form: Form) -> Question:
    """The question of a row.

    Raises:
        UsageError: it is not a question with one right choice.
    """
    choices = row.names("choices")
    twice = sorted({choice for choice in choices if choices.count(choice) > 1})
    if twice:
        raise row.error(f"the choice {twice[0]!r} is there twice")
    most = len(form.letters) if form.shows_options else len(choices)
    if not 2 <= len(choices) <= most:
        raise row.error(
            f"it has {len(choices)} choices; a question has two or more, and a letter for each that is shown"
        )
    answer = _place(row, "answer", row.name("answer"), choices, form)
    named = row.names("wrong") if "wrong" in row.values else ()
    wrong = tuple(_place(row, "wrong", name, choices, form) for name in named)
    if answer in wrong:
        raise row.error(f"the answer {choices[answer]!r} is named among the wrong choices")
    others = tuple(i for i in range(len(choices)) if i != answer)
    return Question(row.id, row.cluster, row.text("question"), choices, answer, wrong or others)


def _place(row: Row, column: str, name: str, choices: Sequence[str], form: Form) -> int:
    """The choice that ``name`` stands for."""
    readings = {
        "text": choices.index(name) if name in choices else -1,
        "letter": form.letters[: len(choices)].find(name) if len(name) == 1 else -1,
        "index": int(name) if name.isdecimal() and int(name) < len(choices) else -1,
    }
    found = {place for kind, place in readings.items() if place >= 0 and form.answer_is in ("any", kind)}
    if not found:
        raise row.error(
            f"{column} {name!r} is not among the choices {', '.join(choices)}, by text, letter or index from 0"
        )
    if len(found) > 1:
        several = ", ".join(kind for kind, place in readings.items() if place >= 0)
        raise row.error(f"{column} {name!r} can be read as {several}; say which by answer_is: text, letter or index")
    return found.pop()


def _fields(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def _check_fields(setting: str, template: str, needed: Sequence[str], allowed: Sequence[str]) -> None:
    try:
        fields = _fields(template)
    except ValueError as error:
        raise UsageError(f"{setting} {template!r}: {error}; write {{{{ for a brace") from error
    if not set(needed) <= set(fields) <= set(allowed):
        known = ", ".join(f"{{{name}}}" for name in allowed)
        raise UsageError(f"{setting} {template!r} has the fields {', '.join(fields) or 'none'}; there are {known}")
