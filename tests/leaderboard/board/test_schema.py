"""The JSON Schema is current, the file obeys it, and it has no room for NaN or unknown fields."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from leaderboard.board.aggregate import leaderboard, write
from leaderboard.board.schema import SCHEMA_FILE, json_schema
from leaderboard.scores.values import Estimate
from tests.leaderboard.row_factory import NEVER, board, cell, rows, write_run


def test_the_checked_in_schema_is_current() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json_schema(), (
        "run python -m leaderboard.board.schema"
    )


def test_a_produced_file_obeys_the_schema_and_a_changed_one_does_not(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [cell(rows([0.05, NEVER] * 5))])
    target = tmp_path / "leaderboard.json"
    write(leaderboard([board(run)]), target)
    made = json.loads(target.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(made, json_schema())
    for broken in ({**made, "extra": 1}, {**made, "schema_version": 1}, {**made, "generated_at": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, json_schema())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Estimate(value=value)


def test_every_number_says_what_it_is() -> None:
    """Fields that are not their own explanation are described; the descriptions reach the JSON Schema."""
    described = json_schema()["$defs"]["Series"]["properties"]
    assert "Robust suppression" in described["rs"]["description"]
