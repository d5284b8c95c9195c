"""Reading the JSON files of a run directory into checked records."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.errors import RunDirectoryError, UsageError
from benchmark.plain_json import from_json

MOST_BYTES = 64_000_000
"""Of a JSON file; the largest that was seen has some 400,000."""


class Recorded(BaseModel):
    """Base of what is read: fields that later versions add are let through."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)


T = TypeVar("T", bound=Recorded)


def parse(kind: type[T], file: Path) -> T:
    """The record that a file holds.

    Raises:
        RunDirectoryError: the file cannot be read, or is no such record.
    """
    try:
        return kind.model_validate(strict_json(file))
    except OSError as error:
        raise RunDirectoryError(f"{file} cannot be read: {error.strerror}; repeat the run") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        message = f"{file} is damaged or of another version: {place}: {first['msg']}; repeat the run"
        raise RunDirectoryError(message) from error


def strict_json(file: Path) -> Any:
    """What a file says: every number finite, no key twice, nothing nested too deep.

    Raises:
        OSError: it cannot be read.
        RunDirectoryError: it is no such JSON, or too large.
    """
    with file.open("rb") as opened:
        data = opened.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise RunDirectoryError(f"{file} is larger than {MOST_BYTES} bytes; give a run's own file")
    try:
        return from_json(data.decode("utf-8"), str(file))
    except (UnicodeDecodeError, UsageError) as error:
        raise RunDirectoryError(f"{file} is damaged: {error}; repeat the run") from error
