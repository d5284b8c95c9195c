"""Who hands an entry in, and under which terms."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator, ConfigDict, ValidationError

from benchmark.errors import UsageError
from benchmark.names import checked_name
from leaderboard.scores.values import Strict

LONGEST = 200
"""Characters of an answer."""
_ADDRESS = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z]{2,}(:[0-9]{1,5})?(/[^\s<>\"'`\\]*)?")
_MAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z]{2,}")


def _line(value: str) -> str:
    if len(value) > LONGEST:
        raise ValueError(f"it has {len(value)} characters; write at most {LONGEST}")
    try:
        return checked_name(value, "answer")
    except UsageError as error:
        raise ValueError(str(error)) from error


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(_line(value)):
        raise ValueError("write an address that begins with https:// or http://")
    return value


def _contact(value: str) -> str:
    if not (_MAIL.fullmatch(_line(value)) or _ADDRESS.fullmatch(value)):
        raise ValueError("write a mail address, or one that begins with https://")
    return value


def _licence(value: str) -> str:
    try:
        return str(canonicalize_license_expression(_line(value)))
    except InvalidLicenseExpression as error:
        raise ValueError("write an SPDX expression, MIT or Apache-2.0 for example") from error


Line = Annotated[str, AfterValidator(_line)]
Address = Annotated[str, AfterValidator(_address)]


class Form(Strict):
    """What a submitter answers. It is published."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    title: Line
    """What the defense is called on the board."""
    organisation: Line
    """Who hands it in: a group, a company, or a name. Entries are counted by it."""
    licence: Annotated[str, AfterValidator(_licence)]
    """Of the entry and of the defense: an SPDX expression."""
    contact: Annotated[str, AfterValidator(_contact)] | None = None
    """A mail address or a web page for questions, if there is one."""
    paper: Address | None = None
    """Address of the paper, if there is one."""
    code: Address | None = None
    """Address of the code, if there is one."""

    @classmethod
    def make(cls, answers: dict[str, Any]) -> Form:
        """A form of answers.

        Raises:
            UsageError: one is missing or not of its form; all of them are named.
        """
        try:
            return cls.model_validate({name: answer for name, answer in answers.items() if answer is not None})
        except ValidationError as error:
            faults = error.errors(include_url=False)
            missing = [f"--{fault['loc'][0]}" for fault in faults if fault["type"] == "missing"]
            told = [f"--{f['loc'][0]}: {_told(f)} (got {f['input']!r:.80})" for f in faults if f["type"] != "missing"]
            if missing:
                told.append(f"give {', '.join(missing)}")
            raise UsageError("; ".join(told)) from error


def _told(fault: Any) -> str:
    return str(fault["msg"]).removeprefix("Value error, ")


def questions() -> list[tuple[str, str, bool]]:
    """What is asked, in order: name, question, and whether it must be answered."""
    fields = Form.model_fields.items()
    return [(name, str(field.description), type(None) not in get_args(field.annotation)) for name, field in fields]
