"""What the comparison page needs of each entry: its numbers, its curves, and how it differs from the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from leaderboard.board.schema import Comparison, Entry, SuiteBoard, TaskResult
from leaderboard.scores.values import Estimate
from leaderboard.site.addresses import entry_key, suite_key
from leaderboard.site.curve_tables import areas
from leaderboard.site.rows import title, was_attacked
from leaderboard.site.untrusted import script_data
from leaderboard.tables.wording import budget_name, number, share, words

Drawn = Mapping[str, Any]
"""An estimate as the page takes it: what is shown, and the numbers that are drawn."""


def comparable(board: SuiteBoard) -> list[Entry]:
    """The entries that can be chosen: those that were attacked, in the order of the board."""
    return [entry for entry in board.entries if was_attacked(entry)]


def compare_parts(board: SuiteBoard) -> dict[str, Any]:
    """The context of the page's template."""
    suite, entries = board.suite, comparable(board)
    return {
        "suite": suite,
        "choices": [(entry_key(entry), title(entry), entry) for entry in entries],
        "folder": f"data/{suite_key(suite)}/",
        "entries_folder": f"entries/{suite_key(suite)}/",
    }


def scripts(board: SuiteBoard) -> Iterator[tuple[Entry, bytes]]:
    """Each of them with a script that hands it to the page."""
    found = differences(board)
    for entry in comparable(board):
        key = entry_key(entry)
        data = script_data(_data(entry) | {"key": key, "differences": found[key]})
        yield entry, f"received({data});\n".encode()


def differences(board: SuiteBoard) -> Mapping[str, dict[str, list[dict[str, Any]]]]:
    """Entry -> another -> their paired differences, the first less the other."""
    by_run = {(entry.defense.name, entry.provenance.run_id): entry_key(entry) for entry in comparable(board)}
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for one in board.comparisons:
        first, second = by_run[one.first, one.runs[0]], by_run[one.second, one.runs[1]]
        found[first][second].append(_difference(one, one.aurc))
        found[second][first].append(_difference(one, _turned(one.aurc)))
    return found


def _turned(value: Estimate) -> Estimate:
    """The same of the second less the first; taken from 0, so that none is -0."""
    if value.value is None:
        return value
    given = value.interval
    ends = given and given.model_copy(update={"low": 0.0 - given.high, "high": 0.0 - given.low})
    return Estimate(value=0.0 - value.value, interval=ends)


def _difference(one: Comparison, aurc: Estimate) -> dict[str, Any]:
    return {"task": one.task, "threat": words(one.threat_model), "area": _drawn(aurc), "p": number(one.p, ".3f")}


def _data(entry: Entry) -> dict[str, Any]:
    head = entry.headline
    return {
        "title": title(entry),
        "model": entry.model.id,
        "scores": {
            "WRS": _drawn(head.wrs),
            "WRS, selective recoveries only": _drawn(head.wrs_selective),
            "RS(0)": _drawn(head.rs0),
            **{f"Area, {words(name)}": _drawn(head.aurc[name]) for name in areas(entry)},
            "Baseline gap": _drawn(head.baseline_gap),
            "Utility kept": {"text": number(entry.utility, ".3f")},
        },
        "tasks": {task: _task(entry, result) for task, result in entry.per_task.items()},
    }


def _task(entry: Entry, result: TaskResult) -> dict[str, Any]:
    plain = [curve for curve in result.curves.values() if curve.tau is None]
    plain_areas = {f"Area, {words(curve.threat_model)}": _drawn(curve.raw.aurc) for curve in plain}
    return {
        "scores": {
            "Smallest scored area": _drawn(result.score),
            "RS(0)": _drawn(result.rs0),
            **plain_areas,
            "Utility kept": {"text": number(result.utility.retained if result.utility else None, ".3f")},
        },
        "curves": {
            curve.threat_model: {
                "budget": budget_name(entry.threats[curve.threat_model].unit),
                "points": [[0, _drawn(result.rs0)], *zip(curve.budgets, map(_drawn, curve.raw.rs), strict=True)],
            }
            for curve in plain
        },
    }


def _drawn(value: Estimate) -> Drawn:
    if value.value is None:
        return {"text": share(value)}
    ends = {"low": value.interval.low, "high": value.interval.high} if value.interval else {}
    return {"text": share(value), "value": value.value, **ends}
