"""JSON in which no key is there twice, nothing is nested too deep, and every number is finite."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from benchmark.errors import UsageError
from benchmark.plain_values import MOST_NESTED, SHOWN, number, shown

_JSON = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\],:\n]|-?Infinity|NaN')


def from_json(text: str, where: str) -> Any:
    """What a text says.

    Raises:
        UsageError: it is no JSON, or not of the plain form.
    """
    _check_json(text, where)
    try:
        return json.loads(text, parse_float=number, parse_int=number)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not valid YAML or JSON: {error or 'it is empty'}; write plain JSON") from error


def _check_json(text: str, where: str) -> None:
    """Whether no key is there twice, nothing is nested too deep, and every number is one; of valid JSON."""
    line, keys, last = 1, [], ""

    def refuse(problem: str) -> NoReturn:
        raise UsageError(f"{where} is not valid YAML or JSON: line {line}: {problem}")

    for token in _JSON.findall(text):
        if token == "\n":
            line += 1
            continue
        if token in ("NaN", "Infinity", "-Infinity"):
            refuse(f"{token} is no finite number; write a number or null")
        if token in "{[":
            keys.append({})
            if len(keys) > MOST_NESTED:
                refuse(f"lists and mappings are nested more than {MOST_NESTED} deep; write them flatter")
        elif token in "}]" and keys:
            keys.pop()
        elif token == ":" and keys and last.startswith('"'):
            key = _unquoted(last)
            if key in keys[-1]:
                refuse(f"the key {shown(key)} is there twice, first in line {keys[-1][key]}; leave one out")
            keys[-1][key] = line
        elif token.startswith('"') and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in _unquoted(token)):
            refuse(f"{token[:SHOWN]} has a character that no file can hold; take it out")
        last = token


def _unquoted(token: str) -> str:
    try:
        return json.loads(token)
    except ValueError:
        return token
