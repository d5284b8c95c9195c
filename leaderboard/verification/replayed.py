"""The second stage: what is stored does on the live defended model what the rows say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.files import digest_of
from leaderboard.rows.fits import Fit
from leaderboard.rows.run import MeasuredCell
from leaderboard.verification.again import REFERENCE, REPLAYED, Found, rows_of
from leaderboard.verification.checks import Check, check
from leaderboard.verification.recomputed import Subject, differences, scored

EXACT, ROUNDED = 1e-2, 1e-1
"""Largest difference of a margin or a drift, relative to 1 + its size, that other hardware makes: of fp32 and fp64, and
of other dtypes."""
NORM = 1e-3
"""The same of an L2 norm, relative to it."""
LEAK = 1e-4
"""Relative leak into what a constraint protects: ten times what a run lets pass."""
INVALID = "invalid"
MEASURED = {
    *("utility", "idempotence_gap", "suppressed_fit", "nondeterminism", "edit_moved", "monitor_false_positives"),
    *("suppressed_share", "side_effects"),
}
"""Of the record of a fit; what lm-eval says is not asked again."""
DONE = "every stored perturbation does what its row says"
"""The check without which nothing counts as replayed."""


def store_faults(one: Subject, folder: Path) -> Iterator[str]:
    """Sentences about files of perturbations that are not what the rows name."""
    for cell in _own(one):
        if not cell.perturbations:
            if any(status == "ok" for status in cell.rows["status"].to_pylist()):
                yield f"{_where(cell)} names no perturbations, and was attacked"
            continue
        file = folder / f"{cell.perturbations}.safetensors"
        if not file.is_file():
            yield f"{file.name} of {_where(cell)} is not there"
        elif digest_of(file) != cell.perturbations:
            yield f"{file.name} of {_where(cell)} is another file than it was"


def refitted(one: Subject, found: Found, folder: Path) -> Iterator[Check]:
    """Whether the defense, fitted again and not attacked, is the one that was run, check by check.

    Args:
        folder: where the process with the model left its tables.
    """
    tasks = list(one.run.manifest.tasks)

    def said(what: str, faults: Iterator[str], looked_at: str = "") -> Check:
        return check("replayed", what, faults, looked_at=looked_at)

    yield said(
        "the defense can be fitted again, keeps its promises and leaves nothing behind", _fit_faults(found, tasks)
    )
    if found.failed is not None:
        return
    yield said("fitted again it is the same defense", _other_fits(found))
    rows = {task: rows_of(folder, task, "reference", REFERENCE) for task in tasks}
    count = sum(map(len, rows.values()))
    faults = (fault for task in tasks for fault in _reference_faults(one, task, rows[task]))
    yield said("the model shows and the defense suppresses what the rows say", faults, f"{count} examples")


def as_recorded(one: Subject, found: Found) -> Iterator[Check]:
    """Whether it does and costs what its run says, check by check."""
    records = _other_records(one, found)
    yield check("replayed", "it costs and does without an attack what its record says", records)
    yield check("replayed", "nothing contradicts the measurement", _contradictions(one))


def replayed(one: Subject, found: Found, folder: Path) -> Iterator[Check]:
    """The check of what is stored."""
    rows = [row for task in found.tasks for row in rows_of(folder, task, "replayed", REPLAYED)]
    measured = {(row["cell_key"], row["example_id"], row["budget_eps"]): row for row in rows}
    faults = (fault for cell in _own(one) for fault in _cell_faults(one, cell, measured))
    yield check("replayed", DONE, faults, looked_at=f"{len(measured)} perturbations")


def _own(one: Subject) -> list[MeasuredCell]:
    return [cell for cell in (*one.run.cells, *one.run.fresh) if cell.plan.defense == one.defense]


def _where(cell: MeasuredCell) -> str:
    return f"{cell.plan.task}, {cell.plan}{', fresh examples' if cell.plan.split == 'fresh' else ''}"


def _fit_faults(found: Found, tasks: list[str]) -> Iterator[str]:
    if found.failed is not None:
        yield found.failed
        return
    for task in tasks:
        result = found.tasks.get(task)
        if result is None:
            yield f"{task}: it was not fitted"
        elif result.failed is not None:
            yield f"{task}: {result.failed}"
        else:
            broken = Fit.model_validate(result.fit).broken_promises
            yield from (f"{task}: it does not keep the promise {promise}" for promise in broken)


def _other_fits(found: Found) -> Iterator[str]:
    for task, result in found.tasks.items():
        if result.fingerprint is not None:
            yield f"{task}: {result.fingerprint}"


def _other_records(one: Subject, found: Found) -> Iterator[str]:
    """What was measured of the fitted defense and enters verdict or flags, and is otherwise now."""
    for task, result in found.tasks.items():
        old = one.run.fits.get((task, one.defense))
        if result.failed is not None:
            continue
        if old is None:
            yield f"{task}: the run has no record of its fit"
            continue
        now = Fit.model_validate(result.fit).model_dump(mode="json", include=MEASURED)
        yield from differences(task, now, old.model_dump(mode="json", include=MEASURED), _tolerance(one))


def _contradictions(one: Subject) -> Iterator[str]:
    """Flags that say that the measurement contradicts itself, made anew of the rows."""
    for flag in scored(one.run, one.defense).flags:
        if flag.effect == INVALID:
            yield f"{flag.where}: {flag.code}: {flag.sentence}"


def _reference_faults(one: Subject, task: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    known = {(row["split"], row["example_id"]): row for row in rows}
    tolerance = _tolerance(one)
    for cell in _own(one):
        if cell.plan.task != task:
            continue
        wrong = [
            row["example_id"]
            for row in cell.rows.to_pylist()
            if _differs(row, known.get((cell.plan.split, row["example_id"])), tolerance)
        ]
        if wrong:
            yield f"{_where(cell)}: {len(set(wrong))} examples are judged otherwise without an attack, first {wrong[0]}"


def _differs(row: Mapping[str, Any], now: Mapping[str, Any] | None, tolerance: float) -> bool:
    if now is None:
        return True
    margins = ((row[name], now[name]) for name in ("margin_base", "margin_defended"))
    if any(_apart(old, new, tolerance) for old, new in margins):
        return True
    named = ("eligible", "suppressed", "label_base", "label_defended")
    near = min(abs(row["margin_base"]), abs(row["margin_defended"])) <= tolerance
    return not near and any(row[name] != now[name] for name in named)


def _cell_faults(one: Subject, cell: MeasuredCell, measured: Mapping[Any, Mapping[str, Any]]) -> Iterator[str]:
    faults: dict[str, list[str]] = {}
    for row in cell.rows.to_pylist():
        now = measured.get((cell.plan.key, row["example_id"], row["budget_eps"]))
        if row["status"] == "ok":
            for what in _row_faults(row, now, _tolerance(one)):
                faults.setdefault(what, []).append(f"{row['example_id']} at {row['budget_eps']:g}")
        elif now is not None:
            faults.setdefault("are stored, and were not run", []).append(row["example_id"])
    for what, places in faults.items():
        yield f"{_where(cell)}: {len(places)} rows {what}, first {places[0]}"


def _row_faults(row: Mapping[str, Any], now: Mapping[str, Any] | None, tolerance: float) -> Iterator[str]:
    if now is None or now["recovered"] is None:
        yield "have no perturbation, or one that is written elsewhere than they say"
        return
    marginal = abs(row["margin_attacked"]) <= tolerance
    if now["recovered"] != row["recovered"] and not marginal:
        yield f"are {'recovered' if row['recovered'] else 'held'}, and the perturbation says otherwise"
    elif now["label"] != row["label_attacked"] and not marginal:
        yield "have another label than the perturbation leads to"
    if _apart(row["margin_attacked"], now["margin"], tolerance):
        yield "have another margin than the perturbation leads to"
    if abs(row["delta_norm"] - now["norm"]) > NORM * max(row["delta_norm"], 1e-6):
        yield "have another norm than the perturbation"
    if now["violation"] > LEAK and "constraint-violated" not in row["flags"]:
        yield "break their constraint, and do not say so"
    if _apart(row["drift_abs"], now["drift_abs"], tolerance):
        yield "have another drift than the perturbation causes"


def _apart(old: float | None, new: float | None, tolerance: float) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(old - new) > tolerance * (1 + max(abs(old), abs(new)))


def _tolerance(one: Subject) -> float:
    return EXACT if one.run.manifest.dtype in ("float32", "float64") else ROUNDED
