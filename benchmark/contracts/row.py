"""The rows: a record of records, each field typed once with its meaning beside it.

A row is one (task, example, defense, attack, threat model, constraint, seed, budget). Null where a field does not
apply; NaN is refused. The Parquet schema and its documentation are derived from here (``COLUMNS``), and a measuring
function returns one of these records, complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, ClassVar, NamedTuple, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 2
"""Goes up when a column changes its meaning or type, or disappears. New columns do not raise it."""


class Record(BaseModel):
    """Some fields of a row that are measured together."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, strict=True, use_attribute_docstrings=True
    )
    PREFIX: ClassVar[str] = ""
    """What the names of its columns begin with, before the name of the field that holds it, if that is nested."""


class Identity(Record):
    """Which row it is."""

    run_id: str
    """the run that measured the row"""
    cell_key: str
    """hash of everything that can change the cell's results"""
    task: str
    """task of the suite"""
    example_id: str
    """stable id of the example"""
    cluster_id: str
    """what the example shares with others (question, template): the unit of resampling"""
    defense: str
    """name of the defense"""
    attack: str
    """name of the attack"""
    threat_model: str
    """what the attacker writes (METHOD section 4)"""
    constraint: str
    """none | encoder | jacobian: what the perturbation must leave alone"""
    goal: str
    """behavior | wrong: what the attack aims at; `recovered` is about this goal"""
    seed: int
    """seed of the run"""
    budget_eps: float
    """share of the residual or of the embedding norm, or a number of tokens: the threat model's unit"""
    sanity: bool
    """budget beyond the steering ceiling: for sanity flags only, never ranked"""
    split: str = "test"
    """test | fresh: whose example it is; fresh ones were made for this run and enter no score"""


TARGET_SHOWN = "the defended model shows every wrong target before any attack"
"""``error`` of a row that aims at a wrong target and was not run, because there is none left."""


REPLAYED = "replay"
"""``found_by`` of what another threat model found."""


class Outcome(Record):
    """What became of the example."""

    eligible: bool
    """the undefended model shows the behavior"""
    suppressed: bool
    """eligible, and the defended model does not show it"""
    recovered: bool | None
    """suppressed, and the attack reached its goal on the clean re-measurement; null where not suppressed"""
    outcome: str | None
    """never_suppressed | held | recovered | degenerate; null where not eligible, or not attacked for a reason"""
    label_base: str
    """verdict on the undefended model"""
    label_defended: str
    """verdict on the defended model"""
    label_attacked: str | None = None
    """verdict under attack"""
    eps_star: float | None = None
    """smallest budget of the grid at which the goal was reached; null: at none"""
    flags: tuple[str, ...] = ()
    """codes of what is doubtful about the row"""
    status: str
    """ok | not_run (nothing to attack) | error"""
    error: str | None = None
    """why it was not run, or message of the error"""


class Margins(Record):
    """How clearly the behavior is shown."""

    margin_base: float
    """the task's margin, undefended (behavior: > 0)"""
    margin_defended: float
    """the same, defended"""
    margin_start: float | None = None
    """margin of the goal, defended and before the attack; null: not attacked, or the goal is a text"""
    margin_attacked: float | None = None
    """the same, under attack; with goal `wrong` the margin of the wrong target"""
    recovered_fraction: float | None = None
    """share of the lost margin that came back, clipped to [0, 1]"""
    overshoot: float | None = None
    """margin under attack beyond the undefended one, in units of the undefended one; >= 0"""


class Drift(Record):
    """How far the protected latents moved from their defended values, and which came back (METHOD section 7)."""

    drift_abs: float
    """L2 change of the protected activations, from the first perturbed position on"""
    drift_rel: float | None
    """drift_abs / norm of the defended activations; null where that norm is near zero"""
    drift_rel_base: float | None
    """drift_abs / norm of the undefended activations; null where near zero"""
    drift_pre_abs: float
    """L2 change of the protected pre-activations"""
    drift_pre_rel: float | None
    """drift_pre_abs / norm of the defended pre-activations"""
    drift_linf: float
    """largest change of one protected activation"""
    drift_toward: float
    """L2 of the part of the pre-activation drift that undoes the edit"""
    drift_away: float
    """L2 of the part that goes further than the edit"""
    near_zero: bool
    """the normaliser of drift_rel is near zero (the row counts in n_near_zero)"""
    reactivated_fraction: float | None
    """of the protected latents at or below threshold, the share above it now"""
    reactivated_mass: float
    """sum of their activations"""
    reactivation_margin: float | None
    """smallest distance of such a latent's pre-activation to its threshold"""
    zero_reactivation: bool | None
    """no such latent is above threshold"""
    floor_violation_abs: float
    """L2 of relu(defended - attacked) over the protected activations"""
    floor_violation_rel: float | None
    """the same over the norm of the defended activations; null where near zero"""
    decode_drift_abs: float
    """L2 of the activation change decoded through the protected decoder rows"""


class Written(Record):
    """What was written."""

    budget_abs: float
    """budget as an L2 norm; of a typed suffix, a number of tokens"""
    delta_eps: float
    """L2 norm of the perturbation, as a share like budget_eps"""
    delta_norm: float
    """L2 norm of the perturbation; of a typed suffix, the tokens that its text is read as"""
    delta_site_norms: tuple[float, ...]
    """L2 norm per perturbed site"""
    first_success_eps: float | None = None
    """delta_eps of the first iterate that reached the goal"""
    first_success_drift: float | None = None
    """drift_abs of that iterate"""
    min_eps: float | None = None
    """L2 norm, as a share like budget_eps, of the smallest rescaling of the perturbation that still reaches the goal, with the search's slack of 1 % of the undefended margin, at the smallest budget that was enough; null elsewhere"""  # noqa: E501
    found_by: str | None = None
    """search | straight-through | replay | way-back | error-subspace | random-search: which member of the attack found it; the others are asked only where the search failed. Null where there is the search alone"""  # noqa: E501
    written_sites: tuple[str, ...] | None = None
    """hook names of the sites written to; null where no stream is written to"""


class Slopes(Record):
    """Whether the gradients that the search was given are those of what is measured; null where not sampled."""

    slope_ratio: float | None
    """finite difference of the objective along the search's own gradient over the slope that the gradient promises, median over some points of its path; null: no gradient to follow"""  # noqa: E501
    slope_gap: float
    """the same along random directions: their difference over the larger of the two, median"""
    call_path_gap: float
    """largest relative difference of the objective, and of its gradient, when a point of the path is looked at again from another thread, without the search, in another order"""  # noqa: E501


class Cost(Record):
    """What the search spent on the row, metered by the harness."""

    steps: int
    """optimiser steps spent on the row, all restarts"""
    forwards: int
    """forward passes spent on the row"""
    backwards: int
    """backward passes spent on the row"""
    seconds: float
    """wall time of the row's pack, divided by its rows"""
    peak_memory_mb: float | None = None
    """peak accelerator memory of the row's pack; null on a CPU"""
    threads: int | None = None
    """threads that worked on it for all its seconds; null on an accelerator, where it had that to itself"""


class Detection(Record):
    """What the defense's detector says."""

    monitor_score: float
    """score of the defense's detector"""
    detected: bool
    """score above the threshold of 1 % false positives"""


class Part(Record):
    """A part of a perturbation, replayed alone (METHOD section 7)."""

    share: float | None
    """L2 norm of the part, relative to the perturbation; may exceed 1"""
    recovered: bool | None
    """the part alone reaches the goal; null where it is zero"""
    equal_recovered: bool | None
    """the same, at the norm of the perturbation"""


class Cosines(Record):
    """Cosines between parts of a perturbation; null where one is zero."""

    clamped_other: float | None
    """cosine between the clamped part and the other latents' part"""
    clamped_residual: float | None
    """cosine between the clamped part and what the SAE does not explain"""
    clamped_delta: float | None
    """cosine between the clamped part and the perturbation"""
    other_residual: float | None
    """cosine between the other latents' part and what the SAE does not explain"""
    other_delta: float | None
    """cosine between the other latents' part and the perturbation"""
    residual_delta: float | None
    """cosine between what the SAE does not explain and the perturbation"""


class Attribution(Record):
    """What the three parts of a perturbation, which sum to it, do alone: the optional attribution pass."""

    PREFIX = "attr_"
    clamped: Part
    """through the protected latents"""
    other: Part
    """through the SAE's other latents"""
    residual: Part
    """what the SAE does not explain"""
    random_recovered: float
    """share of random vectors of the perturbation's norm that reach the goal"""
    cos: Cosines
    """between the parts"""


class Row(Record):
    """One row. What does not apply is null: all fields of that record."""

    identity: Identity
    outcome: Outcome
    margins: Margins
    drift: Drift | None = None
    written: Written | None = None
    slopes: Slopes | None = None
    cost: Cost | None = None
    detection: Detection | None = None
    attribution: Attribution | None = None
    extra: Record | None = None
    """What a protocol measures beside the rest; its columns are in that protocol's runs only."""

    def columns(self) -> dict[str, Any]:
        """The row as column -> value; columns of records that it does not have are left out."""
        held = ((getattr(self, name), name) for name in type(self).model_fields)
        return {k: v for record, _ in held if record is not None for k, v in _values(record, record.PREFIX)}


class Column(NamedTuple):
    """One column of the rows."""

    name: str
    type: pa.DataType
    meaning: str


_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    float: pa.float64(),
    bool: pa.bool_(),
    int: pa.int64(),
    tuple[float, ...]: pa.list_(pa.float64()),
    tuple[str, ...]: pa.list_(pa.string()),
}


def columns(record: type[Record], prefix: str | None = None, where: str = "") -> Iterator[Column]:
    """The columns of a record and of the records in it.

    Raises:
        KeyError: a field of a type that no column has.
    """
    prefix = record.PREFIX if prefix is None else prefix
    for name, field in record.model_fields.items():
        kind = _without_null(field.annotation)
        meaning = f"{field.description}{where}"
        if isinstance(kind, type) and issubclass(kind, Record):
            yield from columns(kind, f"{prefix}{name}_", f" ({field.description})")
        else:
            yield Column(f"{prefix}{name}", _TYPES[kind], meaning)


def _without_null(annotation: Any) -> Any:
    """What a field holds where it is not null."""
    kinds = tuple(kind for kind in get_args(annotation) if kind is not NoneType)
    return kinds[0] if get_origin(annotation) is UnionType and len(kinds) == 1 else annotation


def _values(record: Record, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in type(record).model_fields:
        value = getattr(record, name)
        if isinstance(value, Record):
            yield from _values(value, f"{prefix}{name}_")
        else:
            yield f"{prefix}{name}", value


RECORDS: tuple[type[Record], ...] = (Identity, Outcome, Margins, Drift, Written, Slopes, Cost, Detection, Attribution)
"""What a row is made of, in the order of the columns."""

COLUMNS: tuple[Column, ...] = tuple(column for record in RECORDS for column in columns(record))


def schema(extra: type[Record] | None = None) -> pa.Schema:
    """The Parquet schema of rows, with the columns of an ``extra`` record."""
    more = () if extra is None else tuple(columns(extra))
    return pa.schema(
        [pa.field(column.name, column.type, metadata={"meaning": column.meaning}) for column in (*COLUMNS, *more)],
        metadata={"recoverybench.schema_version": str(SCHEMA_VERSION)},
    )


SCHEMA = schema()


def table(rows: Sequence[Row], extra: type[Record] | None = None) -> pa.Table:
    """Rows as a table; what a row does not have is null."""
    return pa.Table.from_pylist([row.columns() for row in rows], schema=schema(extra))
