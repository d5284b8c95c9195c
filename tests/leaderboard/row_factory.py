"""Synthetic rows, cells and run directories for the tests of the leaderboard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.contracts.row import SCHEMA
from leaderboard.board.aggregate import suite_board
from leaderboard.board.schema import Entry, SuiteBoard
from leaderboard.bundle.reading import digests
from leaderboard.rows.files import Rows, write_together
from leaderboard.rows.manifest import ThreatRecord
from leaderboard.rows.plan import PlannedCell
from leaderboard.rows.reference import COMPARED, compared
from leaderboard.rows.run import MeasuredCell, read_run

NEVER = float("inf")
BUDGETS = (0.05, 0.1, 0.2, 0.4)
SANITY = 4.0
TOKENS = (2.0, 4.0, 8.0)
HALF = [0.01] * 16 + [NEVER] * 16
"""32 examples of which half come back at any budget."""
QUARTER = [0.01] * 24 + [NEVER] * 8
"""Of which a quarter holds."""

THREATS: dict[str, dict[str, Any]] = {
    "before_edit": {"unit": "residual", "role": "primary", "reaches_less_than": "after_edit"},
    "after_edit": {"unit": "residual", "role": "diagnostic", "reaches_less_than": None},
    "soft_suffix": {"unit": "embedding", "role": "baseline", "reaches_less_than": None},
    "token_suffix": {"unit": "tokens", "role": "baseline", "reaches_less_than": None},
}
"""The threat models as ``run.json`` has them."""


def table(made: Sequence[Mapping[str, object]]) -> pa.Table:
    """Rows as a table, read without anything to compare with; columns that they do not have are null."""
    known = {name for one in made for name in one}
    columns = [
        pa.array([one.get(field.name) for one in made], field.type)
        if field.name in known
        else pa.nulls(len(made), field.type)
        for field in COMPARED
    ]
    return pa.Table.from_arrays(columns, schema=COMPARED)


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


def against(made: pa.Table, undefended: Sequence[float] | None) -> pa.Table:
    """The same rows read with the budget at which the undefended model is steered on each example, infinite: at none;
    null: nothing is known of it."""
    if undefended is None:
        return compared(made, None)
    return compared(made, {f"e{i:03d}": eps for i, eps in enumerate(undefended) if eps != NEVER})


def failed(example: str, eps: float, **changes: object) -> dict[str, object]:
    """A row whose attack raised."""
    return row(example, eps, status="error", error="out of ideas", recovered=None, **changes)


def examples(
    first: Sequence[float],
    budgets: Iterable[float] = BUDGETS,
    cluster: Callable[[int], int] = lambda index: index,
    **changes: object,
) -> list[dict[str, object]]:
    """Rows of one example per entry of ``first``, the budget from which on it is recovered; the sanity one does all."""
    stars = [min((eps for eps in budgets if eps >= own), default=None) for own in first]
    made = [
        row(
            f"e{index:03d}",
            eps,
            **({"cluster_id": f"c{cluster(index):03d}", "recovered": eps >= own, "eps_star": stars[index]} | changes),
        )
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


def cell(made: pa.Table, threat: Mapping[str, Any] | None = None, **changes: Any) -> MeasuredCell:
    """A cell of these rows, planned as its first row says unless ``changes`` do.

    Args:
        threat: what its threat model says of itself; null: as in ``THREATS``.
    """
    head = made.slice(0, 1).to_pylist()[0]
    plan = {name: head[name] for name in ("task", "defense", "attack", "threat_model", "constraint", "goal")}
    sanity = {one["budget_eps"] for one in made.select(["budget_eps", "sanity"]).to_pylist() if one["sanity"]}
    free = plan["constraint"] == "none" and "role" not in changes
    plan |= {
        "role": "attack",
        "searches": True,
        "budgets": sorted(set(made.column("budget_eps").to_pylist())),
        "sanity_budgets": sorted(sanity) if free else [],
    } | changes
    key = "-".join(str(plan[name]) for name in ("task", "defense", "attack", "threat_model", "constraint", "goal"))
    record = ThreatRecord.model_validate(threat or THREATS[str(plan["threat_model"])])
    return MeasuredCell(PlannedCell.model_validate(plan | {"key": key}), record, made)


def control(made: pa.Table, threat: Mapping[str, Any] | None = None, **changes: Any) -> MeasuredCell:
    """The same as a control that does not search."""
    return cell(made, threat, **({"role": "control", "searches": False} | changes))


def wrong(made: pa.Table, threat: Mapping[str, Any] | None = None) -> MeasuredCell:
    """The same as a search for a wrong target."""
    return cell(made, threat, role="control")


WRONG: dict[str, Any] = {"attack": "wrong-target", "goal": "wrong"}


def beside(**way: str) -> list[dict[str, str]]:
    """Which controls stand beside an attack that writes the stream."""
    access = {"threat_model": "before_edit", "constraint": "none", "goal": "behavior"} | way
    return [access | {"attack": "random-direction"}, access | {"attack": "zero", "constraint": "none"}]


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
        *(
            cell(rows(first, **way, **(still if "constraint" in way else common)), controls=beside(**way))
            for way in ways
        ),
        *(control(rows(nothing, attack="random-direction", **way, **common)) for way in ways),
        wrong(rows(nothing, **WRONG, **free[0], **common)),
        *(control(rows(nothing, budgets=(0.0,), attack="zero", **way, **common)) for way in free),
    ]


def suffix_cells(first: Sequence[float], **common: Any) -> list[MeasuredCell]:
    """The soft suffix of the default plan and its control."""
    way = {"threat_model": "soft_suffix"}
    return [
        cell(rows(first, attack="soft-suffix", **way, **common), sanity_budgets=[]),
        wrong(rows([NEVER] * len(first), **WRONG, **way, **common)),
    ]


def token_cells(first: Sequence[float], **common: Any) -> list[MeasuredCell]:
    """A token suffix and its controls; ``first`` counts tokens."""
    way: dict[str, Any] = {"threat_model": "token_suffix", "budgets": TOKENS}
    random = {"attack": "random-suffix", "threat_model": "token_suffix", "constraint": "none", "goal": "behavior"}
    nothing = [NEVER] * len(first)
    return [
        cell(rows(first, attack="gcg", **way, **common), sanity_budgets=[], controls=[random]),
        control(rows(nothing, attack="random-suffix", **way, **common)),
        wrong(rows(nothing, **WRONG, **way, **common)),
    ]


def undefended(tasks: Iterable[str]) -> list[MeasuredCell]:
    """The control defense ``none``: classified, and suppressing nothing."""
    nothing: dict[str, Any] = {"budgets": (0.0,), "attack": "zero", "defense": "none", "suppressed": False}
    return [control(rows([NEVER] * 32, task=task, **nothing)) for task in tasks]


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
    return known | {"undefended": "none"} | changes


def frozen(
    *tasks: str,
    budgets: Mapping[str, Sequence[float]] | None = None,
    ceilings: Mapping[str, float | None] | None = None,
    **changes: object,
) -> dict[str, Any]:
    """The tasks of ``run.json``, each with these ``changes``.

    Args:
        budgets: by threat model, in the place of the default's; likewise ``ceilings``.
    """
    residual = [*BUDGETS, SANITY]
    grids = {"before_edit": residual, "after_edit": residual, "soft_suffix": list(BUDGETS)} | dict(budgets or {})
    task = {
        "site": "blocks.2.hook_resid_post",
        "threat_models": [*THREATS],
        "budgets": {name: list(grid) for name, grid in grids.items()},
        "ceilings": {"before_edit": 0.4, "after_edit": 0.4, "soft_suffix": 0.4} | dict(ceilings or {}),
        "tau": 0.1,
        "examples_hash": "abc",
    }
    return dict.fromkeys(tasks, task | changes)


def manifest(tasks: Iterable[str], defenses: Iterable[str], /, **changes: object) -> dict[str, object]:
    """``run.json``."""
    return {
        "schema_version": 2,
        "run_id": "run-1",
        "status": "complete",
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:05:00+00:00",
        "protocol": "strict",
        "ranked": True,
        "limit": None,
        "suite": suite(tasks),
        "model": {"id": "organism", "revision": None, "weights_sha": "feed"},
        "seed": 0,
        "dtype": "float32",
        "device": "cpu",
        "versions": {"torch": "2"},
        "git": {"revision": "abc", "dirty": False},
        "threats": THREATS,
        "tasks": frozen(*tasks),
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
    dump(directory / "run.json", manifest(tasks, defenses, **changes))
    dump(directory / "plan.json", {"cells": [one.plan.model_dump() for one in cells]})
    for one in cells:
        pq.write_table(one.rows.select(SCHEMA.names).cast(SCHEMA), directory / "cells" / f"{one.plan.key}.parquet")
    for task in tasks:
        for defense in defenses:
            kept = retained.get(defense, 1.0) if isinstance(retained, Mapping) else retained
            more = dict(fits or {}) if defense != "none" else {}
            dump(directory / "fits" / f"{task}__{defense}.json", fit(task, defense, kept) | more)
    return directory


def write_entry(directory: Path, cells: Sequence[MeasuredCell], **changes: object) -> Path:
    """The same as what is handed in: an entry of the first cell's defense, which no suite stands behind."""
    run = write_run(directory.with_name(f"{directory.name}-run"), cells, **changes)  # type: ignore[arg-type]
    directory.mkdir(parents=True)
    for name in ("run.json", "plan.json"):
        (directory / name).write_bytes((run / name).read_bytes())
    shutil.copytree(run / "fits", directory / "fits")
    measured = Rows(run)
    write_together(directory / "rows.parquet", {key: measured.cell(key) for key in measured.keys})
    dump(directory / "spec.json", {"defense": "sae-clamp", "name": "clamp"})
    dump(directory / "scores.json", {})
    said = json.loads((run / "run.json").read_text())
    dump(
        directory / "entry.json",
        {
            "suite": {name: str(said["suite"][name]) for name in ("name", "version", "hash")},
            "defense": cells[0].plan.defense,
            "spec_sha": f"sha-{cells[0].plan.defense}",
            "run_id": said["run_id"],
            "submitter": {"title": "A", "organisation": "B", "contact": "a@b.org", "licence": "MIT"},
            "submitted": "2026-01-01",
            "files": digests(directory),
        },
    )
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


def dump(file: Path, content: Mapping[str, object]) -> None:
    """A JSON file."""
    file.write_text(json.dumps(content), encoding="utf-8")


def board(*directories: Path, resamples: int = 50) -> SuiteBoard:
    """The board of these runs; few resamples, where no interval matters."""
    return suite_board([read_run(directory) for directory in directories], resamples=resamples)


def only(directory: Path, resamples: int = 50) -> Entry:
    """The first entry of a run's board: of the defense that was attacked."""
    return board(directory, resamples=resamples).entries[0]
