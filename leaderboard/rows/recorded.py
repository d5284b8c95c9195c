"""Reading the JSON files of a run directory into checked records."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.errors import RunDirectoryError


class Recorded(BaseModel):
    """Base of what is read: fields that later versions add are let through."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)


T = TypeVar("T", bound=Recorded)


def parse(kind: type[T], file: Path) -> T:
    """The record that a file holds.

    Raises:
        RunDirectoryError: the file cannot be read, or is no such record.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except OSError as error:
        raise RunDirectoryError(f"{file} cannot be read: {error.strerror}; repeat the run") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        message = f"{file} is damaged or of another version: {place}: {first['msg']}; repeat the run"
        raise RunDirectoryError(message) from error
