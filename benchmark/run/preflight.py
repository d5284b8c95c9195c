"""What is known of an evaluation before any work: what it fetches and on whose terms, its cells, its cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from benchmark.hub import go_offline
from benchmark.run.bill import KINDS, estimated, spoken
from benchmark.run.estimate import estimate
from benchmark.run.needs import Need, connection, needs, spoken_size
from benchmark.run.prepare import asked_tasks, named_defenses, prepare
from benchmark.run.probe import probe
from benchmark.run.request import Request
from benchmark.terminal import plain_table

LACKING = "the rest needs what is to be fetched: cells, passes, memory and time are told once it is here"


def preflight(request: Request, console: Console) -> dict[str, Any]:
    """Show it on ``console``, and give it as JSON values; nothing is downloaded.

    Raises:
        UsageError: the request does not fit.
    """
    suite, tasks = asked_tasks(request)
    with connection(request.offline):
        fetched = needs(suite, named_defenses(suite, request), tasks)
    _show_needs(console, fetched)
    told: dict[str, Any] = {"fetch": [need.describe() for need in fetched]}
    if not all(need.here for need in fetched):
        console.print(LACKING, soft_wrap=True)
        return {**told, "cells": None, "estimate": None}
    with go_offline():  # all of it is here, so nothing is asked of anybody
        prepared = prepare(request, lambda line: console.print(line, soft_wrap=True))
        described = prepared.plan.describe()
        _show_cells(console, described["cells"])
        expected = estimate(prepared, probe(prepared)).describe()
    _show_estimate(console, expected)
    return {**described, **told, "estimate": expected}


def _show_needs(console: Console, fetched: Sequence[Need]) -> None:
    lacking = [need for need in fetched if not need.here]
    if not lacking:
        return console.print("to fetch: nothing, all of it is on this machine")
    table = plain_table("to fetch", "source", "size", "terms")
    for need in lacking:
        size = "not known without a connection" if need.size is None else spoken_size(need.size)
        said = [part for part in (need.refused, need.terms, need.page) if part]
        table.add_row(need.what, need.source, size, "\n".join(said))
    console.print(table)
    for command in dict.fromkeys(need.get for need in lacking):
        console.print(f"  {command}", soft_wrap=True)


def _show_cells(console: Console, cells: Sequence[Mapping[str, Any]]) -> None:
    table = plain_table("key", "task", "defense", "attack", "budgets", whole="key")
    for cell in cells:
        budgets = ", ".join(f"{b:g}" for b in cell["budgets"])
        attack = f"{cell['attack']} ({cell['threat_model']}, {cell['constraint']})"
        table.add_row(cell["key"], cell["task"], cell["defense"], attack, budgets)
    console.print(table)


def _show_estimate(console: Console, expected: Mapping[str, Any]) -> None:
    table = plain_table("task", *KINDS)
    for task, seconds in expected["seconds"].items():
        table.add_row(task, *("not tried" if seconds[kind] is None else spoken(seconds[kind]) for kind in KINDS))
    console.print(table)
    for line in _lines(expected):
        console.print(line, soft_wrap=True)


def _lines(expected: Mapping[str, Any]) -> Iterator[str]:
    yield f"{expected['cells']} cells, {expected['rows']} rows"
    passes = f"{expected['forwards']} rows of forward and {expected['backwards']} of backward passes"
    yield f"{passes}, if no search stops early; second opinions about those that fail come on top"
    yield f"up to {expected['memory_mb']} MB of memory"
    yield f"{estimated(expected)}, by a probe of {expected['probe_seconds']:.0f} s"
    yield from (f"  not tried: {line}" for line in expected["left_out"])
