"""Boards to build sites of: synthetic runs, handed in by made-up people, some of whom mean harm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leaderboard.board.aggregate import leaderboard
from leaderboard.board.schema import BestKnown, Credit, Entry, Leaderboard, Submission, SuiteBoard
from leaderboard.doubt.flags import Flag
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.detection import Detection
from leaderboard.scores.paired import PairedScore
from leaderboard.scores.stability import Spread, Stability
from leaderboard.scores.values import Estimate, Interval
from leaderboard.site.addresses import compare_page, entry_key, entry_page, suite_page
from tests.leaderboard import row_factory as made

TASKS = ("ioi", "tpp")
HANDED_IN = Submission(
    organisation="Institute of Clamps",
    title="Clamp, tuned",
    paper="https://example.org/paper",
    code="https://example.org/code",
    licence="MIT",
    submitted="2026-02-01",
    attempts=3,
    withdrawn=None,
    tier="replayed",
    place="toy__v1/institute-of-clamps__clamp/sha-clamp",
)
OVERSHOOT = Flag(
    code="overshoot",
    effect="ok",
    evidence=0.06,
    sentence="6 % of the rows overshoot",
    where="ioi/recovery",
    scored=True,
)
CREDIT = Credit(
    organisation="Red Team",
    attack="gcg",
    settings={"steps": 64},
    submitted="2026-02-03",
    fell=7,
    gave_way=2,
)
SHARE = Estimate(value=0.5, interval=Interval(low=0.4, high=0.6, method="cluster-bootstrap"))
MONITORED = Detection(false_positives=0.02, recovered=8, detected_share=SHARE, undetected_share=SHARE)
FACTS = PairedScore(
    name="english-facts", metric="acc", unit="share", base=0.8, defended=0.7, change=SHARE, kept=0.875, n=40
)
SPREAD = Spread(by_edition={"a": SHARE, "b": SHARE}, min=SHARE, max=SHARE, range=SHARE)
OVER_SAES = Stability(defense="clamp", run_id="run-1", saes={"a": {}, "b": {}}, wrs=SPREAD, per_task={})
HOSTILE = '<img src=x onerror="alert(1)">\'</script><script>alert(2)</script>\u202egnp.exe\x07{{ 7 * 7 }}&amp;'
"""Tags, quotes, an end of script, a turn of direction, a control character, a template, an entity."""
ATTRIBUTED: dict[str, Any] = {
    "attr_clamped_share": 0.6,
    "attr_other_share": 0.5,
    "attr_residual_share": 0.4,
    "attr_clamped_recovered": True,
    "attr_other_recovered": False,
    "attr_residual_recovered": False,
    "attr_clamped_equal_recovered": True,
    "attr_other_equal_recovered": False,
    "attr_residual_equal_recovered": False,
    "attr_random_recovered": 0.0,
}


def board(folder: Path) -> Leaderboard:
    """Two suites: three defenses on two tasks, one of them withdrawn, with a control; and a single one."""
    cells = [*_cells("clamp", made.HALF), *_cells("steer", made.QUARTER), *_cells("wall", [made.NEVER] * 32)]
    first = _handed_in(made.board(made.write_run(folder / "first", cells, retained={"steer": 0.9})))
    alone = made.write_run(
        folder / "second", _cells("clamp", made.HALF), suite=made.suite(TASKS, name="other", hash="f" * 16)
    )
    first = first.model_copy(update={"stability": [OVER_SAES]})
    return leaderboard([first, made.board(alone)], generated_at=datetime(2026, 3, 1, tzinfo=UTC))


def _cells(defense: str, first: Sequence[float]) -> list[MeasuredCell]:
    common: dict[str, Any] = {"defense": defense, "drift_rel": 0.05, "drift_abs": 0.5, "first_success_drift": 0.5}
    return [
        cell
        for task in TASKS
        for cell in (
            *made.residual_cells(first, task=task, **common, **ATTRIBUTED),
            *made.suffix_cells(first, task=task, defense=defense),
        )
    ]


def _handed_in(found: SuiteBoard) -> SuiteBoard:
    changes: dict[str, dict[str, Any]] = {
        "clamp": {},
        "steer": {"title": "Steering", "organisation": "University", "tier": "claimed", "paper": None},
        "wall": {"title": "Wall", "withdrawn": "the code looked at its caller"},
    }
    entries = [
        entry.model_copy(update={"submission": HANDED_IN.model_copy(update=changes[entry.defense.name])})
        if entry.defense.name in changes
        else entry
        for entry in found.entries
    ]
    return found.model_copy(
        update={"entries": [_doubtful(one) if one.defense.name == "steer" else one for one in entries]}
    )


def _doubtful(entry: Entry) -> Entry:
    """With a flag, a monitor, a measure beside the tasks, and an attack that does not apply."""
    result = entry.per_task["ioi"]
    idle = result.cells[-1].model_copy(update={"budgets": [], "skipped": "it reads no SAE"})
    more = {"detection": MONITORED, "utility_tasks": [FACTS], "cells": [*result.cells, idle]}
    per_task = entry.per_task | {"ioi": result.model_copy(update=more)}
    known = BestKnown(
        wrs=Estimate(value=0.123, interval=Interval(low=0.1, high=0.2, method="cluster-bootstrap")),
        per_task={"ioi": Estimate(value=0.123)},
        credits=[CREDIT],
    )
    return entry.model_copy(update={"flags": [OVERSHOOT], "per_task": per_task, "best_known": known})


def hostile(plain: Leaderboard) -> Leaderboard:
    """The first suite with everything that a submitter may choose chosen badly."""
    suite = plain.suites[0]
    info = suite.suite.model_copy(update={"name": HOSTILE, "version": HOSTILE, "tasks": [HOSTILE]})
    entries = [_hostile(suite.entries[0], HOSTILE), _hostile(suite.entries[1], "x" * 20_000)]
    return plain.model_copy(
        update={"suites": [suite.model_copy(update={"suite": info, "entries": entries, "comparisons": []})]}
    )


def _hostile(entry: Entry, text: str) -> Entry:
    result = next(iter(entry.per_task.values()))
    cells = [cell.model_copy(update={"attack": text, "constraint": text, "skipped": None}) for cell in result.cells]
    flag = OVERSHOOT.model_copy(update={"code": text, "sentence": text, "where": text})
    return entry.model_copy(
        update={
            "defense": entry.defense.model_copy(
                update={"name": text, "spec_sha": text, "record": {text: {text: text}}}
            ),
            "model": entry.model.model_copy(update={"id": text, "source": text, "revision": text}),
            "per_task": {text: result.model_copy(update={"cells": cells, "site": text})},
            "best_known": BestKnown(
                wrs=SHARE,
                per_task={text: SHARE},
                credits=[CREDIT.model_copy(update={"organisation": text, "attack": text, "settings": {text: text}})],
            ),
            "flags": [flag],
            "verdict": entry.verdict.model_copy(update={"status": "unranked", "reasons": [text]}),
            "rank": None,
            "controls": [one.model_copy(update={"name": text, "task": text}) for one in entry.controls],
            "provenance": entry.provenance.model_copy(
                update={"run_id": text, "git": {text: text}, "versions": {text: text}, "examples_hash": {text: text}}
            ),
            "submission": HANDED_IN.model_copy(
                update={
                    "organisation": text,
                    "title": text,
                    "paper": "javascript:alert(1)",
                    "code": f"https://example.org/{text}",
                    "licence": text,
                    "withdrawn": text,
                }
            ),
        }
    )


def large(plain: Leaderboard, count: int) -> Leaderboard:
    """One suite with that many entries, all different."""
    suite = plain.suites[0]
    entries = [_nth(suite.entries[place % 2], place) for place in range(count)]
    return plain.model_copy(update={"suites": [suite.model_copy(update={"entries": entries, "comparisons": []})]})


def _nth(entry: Entry, place: int) -> Entry:
    wrs = entry.headline.wrs.model_copy(update={"value": round((place * 7919) % 1000 / 1000, 4)})
    return entry.model_copy(
        update={
            "defense": entry.defense.model_copy(update={"name": f"defense-{place:04d}"}),
            "headline": entry.headline.model_copy(update={"wrs": wrs}),
            "submission": HANDED_IN.model_copy(
                update={"title": f"Defense {place}", "organisation": f"Group {place % 40}"}
            ),
        }
    )


def places(board: Leaderboard, folder: Path) -> dict[str, str]:
    """Addresses of a page of each kind, of a site that is built in a folder."""
    suite = board.suites[0]
    first, second, *_ = suite.entries
    chosen = f"#a={entry_key(first)}&b={entry_key(second)}"
    paths = {
        "index": "index.html",
        "method": "method.html",
        "board": suite_page(suite.suite),
        "entry": entry_page(suite.suite, first),
        "comparison": compare_page(suite.suite) + chosen,
    }
    return {name: f"{folder.as_uri()}/{path}" for name, path in paths.items()}
