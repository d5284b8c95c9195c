"""Answers of a submitter: of their form, or told with their flag."""

from __future__ import annotations

import pytest

from benchmark.errors import UsageError
from leaderboard.bundle.form import Form, questions

GOOD = {"title": "A clamp", "organisation": "Ada & Co", "contact": "ada@example.org", "licence": "apache-2.0"}


def test_a_form_is_what_was_answered() -> None:
    form = Form.make({**GOOD, "paper": "https://arxiv.org/abs/2606.18322", "code": None})
    assert form.licence == "Apache-2.0", "as SPDX writes it" and form.code is None
    assert [name for name, _, needed in questions() if needed] == ["title", "organisation", "licence"]


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("title", "", "the name '' is empty"),
        ("title", "a\u202eb", "control or invisible characters"),
        ("title", "x" * 201, "it has 201 characters; write at most 200"),
        ("contact", "ada", "write a mail address"),
        ("contact", "javascript:alert(1)", "write a mail address"),
        ("licence", "my own", "write an SPDX expression"),
        ("paper", "javascript:alert(1)", "write an address that begins with https://"),
        ("paper", 'https://example.org/"><script>', "write an address that begins with https://"),
        ("code", "ftp://example.org", "write an address that begins with https://"),
    ],
)
def test_what_is_not_of_its_form_is_told_with_its_flag(name: str, answer: str, said: str) -> None:
    with pytest.raises(UsageError) as told:
        Form.make({**GOOD, name: answer})
    assert f"--{name}: " in str(told.value) and said in str(told.value)


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(UsageError, match="give --organisation, --licence"):
        Form.make({"title": "A clamp", "organisation": None})
