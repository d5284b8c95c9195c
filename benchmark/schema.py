"""The columns of a row, their types and their meaning: the one place where both are written down.

A row is one (task, example, defense, attack, threat model, constraint, seed, budget). Null where a column does not
apply; never NaN. ``COLUMNS`` is the source of the Parquet schema and of the table in the documentation.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

SCHEMA_VERSION = 1
"""Goes up when a column changes its meaning or type, or disappears. New columns do not raise it."""

_TEXT, _REAL, _FLAG, _COUNT = pa.string(), pa.float64(), pa.bool_(), pa.int64()


class Column(NamedTuple):
    """One column of the rows."""

    name: str
    type: pa.DataType
    meaning: str


def _attribution() -> tuple[Column, ...]:
    """Columns of the optional attribution pass: three parts that sum to the perturbation (METHOD section 7)."""
    through = {
        "clamped": "the part through the protected latents",
        "other": "the part through the SAE's other latents",
        "residual": "the part that the SAE does not explain",
    }
    parts = [
        column
        for name, what in through.items()
        for column in (
            Column(f"attr_{name}_share", _REAL, f"L2 norm of {what}, relative to the perturbation; may exceed 1"),
            Column(f"attr_{name}_recovered", _FLAG, f"{what} alone reaches the goal; null where it is zero"),
            Column(f"attr_{name}_equal_recovered", _FLAG, "the same, at the norm of the perturbation"),
        )
    ]
    cosines = [
        Column(f"attr_cos_{a}_{b}", _REAL, f"cosine between the parts {a} and {b}; null where one is zero")
        for a, b in (("clamped", "other"), ("clamped", "residual"), ("other", "residual"))
    ]
    cosines += [
        Column(f"attr_cos_{name}_delta", _REAL, f"cosine between {what} and the perturbation; null where it is zero")
        for name, what in through.items()
    ]
    control = Column("attr_random_recovered", _REAL, "share of random vectors of the perturbation's norm that reach it")
    return (*parts, control, *cosines)


COLUMNS: tuple[Column, ...] = (
    Column("run_id", _TEXT, "the run that measured the row"),
    Column("cell_key", _TEXT, "hash of everything that can change the cell's results"),
    Column("task", _TEXT, "registered task"),
    Column("example_id", _TEXT, "stable id of the example"),
    Column("cluster_id", _TEXT, "what the example shares with others (question, template): the unit of resampling"),
    Column("defense", _TEXT, "name of the defense"),
    Column("attack", _TEXT, "name of the attack"),
    Column("threat_model", _TEXT, "after_edit | before_edit | soft_suffix | token_suffix"),
    Column("constraint", _TEXT, "none | encoder | jacobian: what the perturbation must leave alone"),
    Column("goal", _TEXT, "behavior | wrong: what the attack aims at; `recovered` is about this goal"),
    Column("seed", _COUNT, "seed of the run"),
    Column("budget_eps", _REAL, "share of the residual norm (soft suffix: embedding norm), or a number of tokens"),
    Column("budget_abs", _REAL, "budget as an L2 norm; of a typed suffix, a number of tokens"),
    Column("sanity", _FLAG, "budget beyond the steering ceiling: for sanity flags only, never ranked"),
    Column("eligible", _FLAG, "the undefended model shows the behavior"),
    Column("suppressed", _FLAG, "eligible, and the defended model does not show it"),
    Column("recovered", _FLAG, "suppressed, and the attack reached its goal on the clean re-measurement"),
    Column("outcome", _TEXT, "never_suppressed | held | recovered | degenerate; null where not eligible"),
    Column("label_base", _TEXT, "verdict on the undefended model"),
    Column("label_defended", _TEXT, "verdict on the defended model"),
    Column("label_attacked", _TEXT, "verdict under attack"),
    Column("margin_base", _REAL, "the task's margin, undefended (behavior: > 0)"),
    Column("margin_defended", _REAL, "the same, defended"),
    Column("margin_attacked", _REAL, "the same, under attack; with goal `wrong` the margin of the wrong target"),
    Column("recovered_fraction", _REAL, "share of the lost margin that came back, clipped to [0, 1]"),
    Column("overshoot", _REAL, "margin under attack beyond the undefended one, in units of the undefended one; >= 0"),
    Column("drift_abs", _REAL, "L2 change of the protected activations, from the first perturbed position on"),
    Column("drift_rel", _REAL, "drift_abs / norm of the defended activations; null where that norm is near zero"),
    Column("drift_rel_base", _REAL, "drift_abs / norm of the undefended activations; null where near zero"),
    Column("drift_pre_abs", _REAL, "L2 change of the protected pre-activations"),
    Column("drift_pre_rel", _REAL, "drift_pre_abs / norm of the defended pre-activations"),
    Column("drift_linf", _REAL, "largest change of one protected activation"),
    Column("drift_toward", _REAL, "L2 of the part of the pre-activation drift that undoes the edit"),
    Column("drift_away", _REAL, "L2 of the part that goes further than the edit"),
    Column("near_zero", _FLAG, "the normaliser of drift_rel is near zero (the row counts in n_near_zero)"),
    Column("reactivated_fraction", _REAL, "of the protected latents at or below threshold, the share above it now"),
    Column("reactivated_mass", _REAL, "sum of their activations"),
    Column("reactivation_margin", _REAL, "smallest distance of such a latent's pre-activation to its threshold"),
    Column("zero_reactivation", _FLAG, "no such latent is above threshold"),
    Column("floor_violation_abs", _REAL, "L2 of relu(defended - attacked) over the protected activations"),
    Column("floor_violation_rel", _REAL, "the same over the norm of the defended activations; null where near zero"),
    Column("decode_drift_abs", _REAL, "L2 of the activation change decoded through the protected decoder rows"),
    Column("delta_eps", _REAL, "L2 norm of the perturbation, as a share like budget_eps"),
    Column("delta_norm", _REAL, "L2 norm of the perturbation; of a typed suffix, the tokens that its text is read as"),
    Column("delta_site_norms", pa.list_(_REAL), "L2 norm per perturbed site"),
    Column("first_success_eps", _REAL, "delta_eps of the first iterate that reached the goal"),
    Column("first_success_drift", _REAL, "drift_abs of that iterate"),
    Column("eps_star", _REAL, "smallest budget of the grid at which the goal was reached; null: at none"),
    Column("eps_star_wrong", _REAL, "the same for the matched wrong target; null: at none, or not run"),
    Column("selective", _FLAG, "recovered at a smaller budget than the wrong target; null where that was not run"),
    Column("steps", _COUNT, "optimiser steps spent on the row, all restarts"),
    Column("forwards", _COUNT, "forward passes spent on the row"),
    Column("backwards", _COUNT, "backward passes spent on the row"),
    Column("seconds", _REAL, "wall time of the row's pack, divided by its rows"),
    Column("peak_memory_mb", _REAL, "peak accelerator memory of the row's pack; null on a CPU"),
    Column("monitor_score", _REAL, "score of the defense's detector"),
    Column("detected", _FLAG, "score above the threshold of 1 % false positives"),
    Column("flags", pa.list_(_TEXT), "codes of what is doubtful about the row"),
    Column("status", _TEXT, "ok | not_run (nothing to attack) | error"),
    Column("error", _TEXT, "message of the error"),
    Column(
        "min_eps",
        _REAL,
        "L2 norm, as a share like budget_eps, of the smallest rescaling of the perturbation that "
        "still reaches the goal, with the search's slack of 1 % of the undefended margin; null where it does not",
    ),
    Column("paper_drift_abs", _REAL, "protocol paper: L2 change of the protected activations as the study reads it"),
    Column("paper_drift_rel", _REAL, "protocol paper: the same over the norm of the defended ones plus 1e-8"),
    *_attribution(),
)

SCHEMA = pa.schema(
    [pa.field(column.name, column.type, metadata={"meaning": column.meaning}) for column in COLUMNS],
    metadata={"recoverybench.schema_version": str(SCHEMA_VERSION)},
)


def table(rows: list[dict[str, object]]) -> pa.Table:
    """Rows as a table of ``SCHEMA``; missing columns are null.

    Raises:
        KeyError: a row has a column that the schema does not know.
    """
    known = set(SCHEMA.names)
    unknown = {name for row in rows for name in row} - known
    if unknown:
        raise KeyError(f"rows have columns that the schema does not know: {sorted(unknown)}")
    return pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], schema=SCHEMA)
