"""Synthetic rows, cells and run directories for the tests of the leaderboard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.schema import table
from leaderboard.runs import MeasuredCell, PlannedCell

NEVER = float("inf")
BUDGETS = (0.05, 0.1, 0.2, 0.4)
SANITY = 4.0


def row(example: str, eps: float, **changes: object) -> dict[str, object]:
    """A row of an eligible, suppressed, not recovered example; ``changes`` override columns."""
    made: dict[str, object] = {
        "example_id": example,
        "cluster_id": example,
        "task": "ioi",
        "defense": "clamp",
        "attack": "recovery",
        "threat_model": "before_edit",
        "constraint": "none",
        "goal": "behavior",
        "seed": 0,
        "budget_eps": eps,
        "budget_abs": 10 * eps,
        "sanity": False,
        "eligible": True,
        "suppressed": True,
        "recovered": False,
        "status": "ok",
        "flags": [],
        "forwards": 2,
        "backwards": 1,
        "seconds": 0.5,
    } | changes
    outcome = "recovered" if made["recovered"] else "held" if made["suppressed"] else "never_suppressed"
    return {"outcome": outcome} | made


def examples(
    first: Sequence[float],
    budgets: Iterable[float] = BUDGETS,
    cluster: Callable[[int], int] = lambda index: index,
    **changes: object,
) -> list[dict[str, object]]:
    """Rows of one example per entry of ``first``, the budget from which on it is recovered; the sanity one does all."""
    made = [
        row(f"e{index:03d}", eps, cluster_id=f"c{cluster(index):03d}", recovered=eps >= own, **changes)
        for index, own in enumerate(first)
        for eps in budgets
    ]
    beyond = [
        row(f"e{index:03d}", SANITY, cluster_id=f"c{cluster(index):03d}", recovered=True, sanity=True, **changes)
        for index in range(len(first))
    ]
    return made + (beyond if any(budgets) else [])


def rows(first: Sequence[float], budgets: Iterable[float] = BUDGETS, **changes: Any) -> pa.Table:
    """The same as a table."""
    return table(examples(first, tuple(budgets), **changes))


def cell(made: pa.Table, **changes: str) -> MeasuredCell:
    """A cell of these rows, planned as its first row says unless ``changes`` do."""
    head = made.slice(0, 1).to_pylist()[0]
    plan = {name: head[name] for name in ("task", "defense", "attack", "threat_model", "constraint", "goal")}
    plan |= {"role": "attack"} | changes
    key = "-".join(str(plan[name]) for name in ("task", "defense", "attack", "threat_model", "constraint", "goal"))
    return MeasuredCell(PlannedCell.model_validate(plan | {"key": key, "file": f"cells/{key}.parquet"}), made)


def default_cells(first: Sequence[float], suffix_first: Sequence[float], **common: Any) -> list[MeasuredCell]:
    """What the default plan runs on one task and defense, with the same recoveries for all residual attacks."""
    return [*residual_cells(first, **common), *suffix_cells(suffix_first, **common)]


def residual_cells(first: Sequence[float], **common: Any) -> list[MeasuredCell]:
    """The residual attacks of the default plan and their controls."""
    nothing = [NEVER] * len(first)
    still: dict[str, Any] = common | {"drift_abs": 0.0}
    free = ({"threat_model": "before_edit"}, {"threat_model": "after_edit"})
    ways = (*free, {"threat_model": "after_edit", "constraint": "encoder"})
    return [
        *(cell(rows(first, **way, **(still if "constraint" in way else common))) for way in ways),
        *(cell(rows(nothing, attack="random-direction", **way, **common), role="control") for way in ways),
        *(cell(rows(nothing, attack="wrong-target", goal="wrong", **way, **common), role="control") for way in ways),
        *(cell(rows(nothing, budgets=(0.0,), attack="zero", **way, **common), role="control") for way in free),
    ]


def suffix_cells(first: Sequence[float], **common: Any) -> list[MeasuredCell]:
    """The soft suffix of the default plan and its control."""
    way = {"threat_model": "soft_suffix"}
    wrong: dict[str, Any] = {"attack": "wrong-target", "goal": "wrong"}
    return [
        cell(rows(first, attack="soft-suffix", **way, **common)),
        cell(rows([NEVER] * len(first), **wrong, **way, **common), role="control"),
    ]


TOKENS = (2.0, 4.0, 8.0)


def token_cells(first: Sequence[float], **common: Any) -> list[MeasuredCell]:
    """A token suffix and its controls; ``first`` counts tokens."""
    way: dict[str, Any] = {"threat_model": "token_suffix", "budgets": TOKENS}
    nothing = [NEVER] * len(first)
    wrong: dict[str, Any] = {"attack": "wrong-target", "goal": "wrong"}
    return [
        cell(rows(first, attack="gcg", **way, **common)),
        cell(rows(nothing, attack="random-suffix", **way, **common), role="control"),
        cell(rows(nothing, **wrong, **way, **common), role="control"),
    ]


def undefended(tasks: Iterable[str]) -> list[MeasuredCell]:
    """The control defense ``none``: classified, and suppressing nothing."""
    nothing: dict[str, Any] = {"budgets": (0.0,), "attack": "zero", "defense": "none", "suppressed": False}
    return [cell(rows([NEVER] * 32, task=task, **nothing), role="control") for task in tasks]


ATTACKS = [
    {"attack": "recovery", "threat_model": "before_edit", "constraint": "none"},
    {"attack": "recovery", "threat_model": "after_edit", "constraint": "none"},
    {"attack": "recovery", "threat_model": "after_edit", "constraint": "encoder"},
    {"attack": "soft-suffix", "threat_model": "soft_suffix", "constraint": "none"},
]
"""What the suite lists."""
TOKEN_ATTACK = {"attack": "gcg", "threat_model": "token_suffix", "constraint": "none"}


def suite(tasks: Iterable[str], /, **changes: object) -> dict[str, object]:
    """The suite's part of ``run.json``."""
    known = {"name": "embedded", "version": 1, "hash": "0123456789abcdef", "tasks": sorted(tasks), "attacks": ATTACKS}
    return known | changes


def frozen(*tasks: str, **changes: object) -> dict[str, Any]:
    """The tasks of ``run.json``, each with these ``changes``."""
    made: Any = manifest(tasks, [])["tasks"]
    return {name: record | changes for name, record in made.items()}


def manifest(tasks: Iterable[str], defenses: Iterable[str], /, **changes: object) -> dict[str, object]:
    """``run.json``."""
    task = {
        "site": "blocks.2.hook_resid_post",
        "budgets": [*BUDGETS, SANITY],
        "suffix_budgets": list(BUDGETS),
        "ceiling": 0.4,
        "suffix_ceiling": 0.4,
        "residual_norm": 10.0,
        "tau": 0.1,
        "examples_hash": "abc",
    }
    return {
        "schema_version": 1,
        "run_id": "run-1",
        "status": "complete",
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:05:00+00:00",
        "protocol": "strict",
        "limit": None,
        "suite": suite(tasks),
        "model": {"id": "organism", "revision": None, "weights_sha": "feed"},
        "seed": 0,
        "dtype": "float32",
        "device": "cpu",
        "versions": {"torch": "2"},
        "git": {"revision": "abc", "dirty": False},
        "tasks": dict.fromkeys(tasks, task),
        "defenses": {name: {"spec": {"name": name}, "spec_sha": f"sha-{name}"} for name in defenses},
    } | changes


def write_run(
    directory: Path,
    cells: Sequence[MeasuredCell],
    retained: float | Mapping[str, float | None] = 1.0,
    fits: Mapping[str, object] | None = None,
    *,
    control: bool = True,
    **changes: object,
) -> Path:
    """A run directory of these cells.

    Args:
        retained: utility of every defense, or by name.
        fits: what is added to the fits of every defense but ``none``.
        control: add the control defense ``none`` where the cells do not have it.
        changes: override fields of ``run.json``.
    """
    tasks = {one.plan.task for one in cells}
    if control and all(one.plan.defense != "none" for one in cells):
        cells = [*cells, *undefended(sorted(tasks))]
    defenses = {one.plan.defense for one in cells}
    (directory / "cells").mkdir(parents=True)
    (directory / "fits").mkdir()
    _dump(directory / "run.json", manifest(tasks, defenses, **changes))
    _dump(directory / "plan.json", {"cells": [one.plan.model_dump() | {"budgets": []} for one in cells]})
    for one in cells:
        pq.write_table(one.rows, directory / one.plan.file)
    for task in tasks:
        for defense in defenses:
            kept = retained.get(defense, 1.0) if isinstance(retained, Mapping) else retained
            more = dict(fits or {}) if defense != "none" else {}
            _dump(directory / "fits" / f"{task}__{defense}.json", fit(task, defense, kept) | more)
    return directory


def fit(task: str, defense: str, retained: float | None) -> dict[str, object]:
    """``fits/<task>__<defense>.json``."""
    return {
        "task": task,
        "defense": defense,
        "record": {"latents": list(range(20)), "strength": 1.5},
        "utility": {"retained": retained, "n": 100, "n_clusters": 20, "ce_base": 2.0, "ce_defended": 2.01},
        "idempotence_gap": 0.1,
        "suppressed_fit": 0.9,
    }


def _dump(file: Path, content: Mapping[str, object]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
