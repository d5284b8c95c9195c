"""Rows: the schema is what the records say, a row survives Parquet, and nothing that is no fact gets into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError, create_model

from benchmark.contracts.row import (
    COLUMNS,
    RECORDS,
    SCHEMA,
    SCHEMA_VERSION,
    Attribution,
    Cosines,
    Cost,
    Detection,
    Drift,
    Identity,
    Margins,
    Outcome,
    Part,
    Record,
    Row,
    Slopes,
    Written,
    columns,
    schema,
    table,
)

BEFORE = """
run_id cell_key task example_id cluster_id defense attack threat_model constraint goal seed budget_eps budget_abs sanity
split eligible suppressed recovered outcome label_base label_defended label_attacked margin_base margin_defended
margin_start margin_attacked recovered_fraction overshoot drift_abs drift_rel drift_rel_base drift_pre_abs drift_pre_rel
drift_linf drift_toward drift_away near_zero reactivated_fraction reactivated_mass reactivation_margin zero_reactivation
floor_violation_abs floor_violation_rel decode_drift_abs delta_eps delta_norm delta_site_norms first_success_eps
first_success_drift eps_star steps forwards backwards seconds peak_memory_mb threads monitor_score
detected flags status error min_eps attr_clamped_share attr_clamped_recovered attr_clamped_equal_recovered
attr_other_share attr_other_recovered attr_other_equal_recovered attr_residual_share attr_residual_recovered
attr_residual_equal_recovered attr_random_recovered attr_cos_clamped_other attr_cos_clamped_residual
attr_cos_other_residual attr_cos_clamped_delta attr_cos_other_delta attr_cos_residual_delta found_by written_sites
slope_ratio slope_gap call_path_gap
""".split()
"""Columns that readers of rows know; without a new version none of them goes."""


def values(record: type[Record]) -> dict[str, Any]:
    """A value of its own for every field, by its type."""
    made: dict[str, Any] = {}
    for i, (name, field) in enumerate(record.model_fields.items()):
        kind = str(field.annotation).split(" | ")[0]
        text: Any = {"<class 'str'>": f"{name}?", "str": f"{name}?", "<class 'int'>": i, "<class 'float'>": i + 0.5}
        more: Any = {"float": i + 0.25, "int": i, "<class 'bool'>": True, "bool": False, "tuple[str, ...]": ("a", "b")}
        made[name] = {**text, **more, "tuple[float, ...]": (0.1, 0.2)}.get(kind)
    return made


PART = Part(share=0.5, recovered=True, equal_recovered=None)
ROW = Row(
    identity=Identity(**values(Identity)),
    outcome=Outcome(**values(Outcome)),
    margins=Margins(**values(Margins)),
    drift=Drift(**values(Drift)),
    written=Written(**values(Written)),
    slopes=Slopes(**values(Slopes)),
    cost=Cost(**values(Cost)),
    detection=Detection(**values(Detection)),
    attribution=Attribution(
        clamped=PART, other=PART, residual=PART, random_recovered=0.125, cos=Cosines(**values(Cosines))
    ),
)
BARE = Row(identity=ROW.identity, outcome=ROW.outcome, margins=ROW.margins)


class Luck(Record):
    """What an invented protocol measures beside the rest."""

    PREFIX = "luck_"
    found: float | None
    """four-leaf clovers a square metre"""


# --- the schema


def test_the_columns_are_all_that_readers_know_and_every_one_says_what_it_is() -> None:
    names = [column.name for column in COLUMNS]
    assert set(names) == set(BEFORE) and len(names) == len(set(names))
    assert SCHEMA.names == names and all(column.meaning not in ("", "None") for column in COLUMNS)
    assert all(SCHEMA.field(c.name).metadata == {b"meaning": c.meaning.encode()} for c in COLUMNS)
    assert SCHEMA.metadata == {b"recoverybench.schema_version": str(SCHEMA_VERSION).encode()}


def test_the_schema_is_derived_from_the_records() -> None:
    assert [c for record in RECORDS for c in columns(record)] == list(COLUMNS)
    types = {column.name: column.type for column in COLUMNS}
    assert types["recovered"] == pa.bool_() and types["seed"] == pa.int64() and types["label_base"] == pa.string()
    assert types["flags"] == pa.list_(pa.string()) and types["delta_site_norms"] == pa.list_(pa.float64())
    assert types["attr_clamped_recovered"] == pa.bool_() and types["min_eps"] == pa.float64()


def test_a_field_without_a_meaning_or_of_a_type_that_no_column_has_is_noticed() -> None:
    class Silent(Record):
        mumbled: float

    assert [column.meaning for column in columns(Silent)] == ["None"], "which the test above refuses"
    kinds: list[Any] = [dict[str, float], list[float], float | str, bytes]
    for kind in kinds:
        with pytest.raises(KeyError):
            list(columns(create_model("Odd", __base__=Record, odd=(kind, ...))))


def test_a_record_of_a_protocol_adds_its_columns_to_its_own_runs_alone() -> None:
    with_luck = schema(Luck)
    assert with_luck.names == [*SCHEMA.names, "luck_found"] and "luck_found" not in SCHEMA.names
    assert with_luck.field("luck_found").metadata == {b"meaning": b"four-leaf clovers a square metre"}
    rows = table([ROW.model_copy(update={"extra": Luck(found=2.0)}), ROW], Luck)
    assert rows["luck_found"].to_pylist() == [2.0, None]


# --- a row


@pytest.mark.parametrize("row", [ROW, BARE], ids=["whole", "bare"])
def test_a_row_survives_parquet(row: Row, tmp_path: Path) -> None:
    pq.write_table(table([row]), tmp_path / "cell.parquet")
    again = pq.read_table(tmp_path / "cell.parquet")
    assert again.schema.equals(SCHEMA) and again.schema.metadata == SCHEMA.metadata
    assert all((again.schema.field(c.name).metadata or {})[b"meaning"] == c.meaning.encode() for c in COLUMNS)
    expected = {name: list(v) if isinstance(v, tuple) else v for name, v in row.columns().items()}
    assert again.to_pylist() == [{**dict.fromkeys(SCHEMA.names), **expected}]


def test_what_does_not_apply_is_null_and_nothing_else_is() -> None:
    whole, bare = (table([row]).to_pylist()[0] for row in (ROW, BARE))
    lacking = {c.name for record in RECORDS[3:] for c in columns(record)}
    assert {name for name, value in bare.items() if value is None} == lacking
    assert {name for name, value in whole.items() if value is None} == {
        f"attr_{part}_equal_recovered" for part in ("clamped", "other", "residual")
    }


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Margins(margin_base=number, margin_defended=0.0)
    with pytest.raises(ValidationError, match="finite"):
        Written.model_validate({**values(Written), "delta_site_norms": (1.0, number)})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"surprise": 1.0}, "surprise"),
        ({"margin_base": "1.0"}, "margin_base"),
        ({"margin_base": None}, "margin_base"),
        ({"margin_attacked": True}, "margin_attacked"),
    ],
)
def test_unknown_fields_and_values_of_another_type_are_refused(wrong: dict[str, Any], message: str) -> None:
    right = {"margin_base": 1.0, "margin_defended": -1.0}
    assert Margins.model_validate(right)
    with pytest.raises(ValidationError, match=message):
        Margins.model_validate(right | wrong)


def test_a_row_is_not_changed_behind_its_back() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ROW.outcome.recovered = False  # type: ignore[misc]
