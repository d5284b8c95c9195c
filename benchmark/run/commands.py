"""The verbs about runs: ``evaluate``, ``validate``, ``plan``; and about what is registered: ``list``, ``show``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from benchmark.run.requesting import Json, requesting
from benchmark.run.signals import NAMES, Stopped, courteous
from benchmark.terminal import plain_table, terminal

if TYPE_CHECKING:
    from benchmark.run.request import Request
    from benchmark.run.runner import Result

FAILED = 3
"""Exit code of a run in which some cells failed."""
PROBE = 3.0
"""Seconds that are spent on an estimate of the time before a run."""
SHOWN = 5
"""Failures that are told at the end; events.jsonl has all of them."""
OWN = ("model", "model_name", "saes", "tasks", "data", "retain_data", "site", "task_settings")
MEASURED_ON = ("suite", *OWN, "offline", "device", "dtype")
"""What decides on which model and tasks a defense is looked at."""


@requesting()
def evaluate(request: Request, as_json: Json = False) -> None:
    """Evaluate defenses: fit, attack, measure, and print a table per task. The same command again resumes."""
    try:
        with courteous(("SIGINT", *NAMES)):
            _evaluate(request, as_json)
    except Stopped as stop:
        raise typer.Exit(stop.exit_code) from stop


def _evaluate(request: Request, as_json: bool) -> None:
    console = terminal(stderr=as_json)
    console.print("loading the model, reading tasks ...")  # before what takes seconds to import
    from benchmark.run.display import Live
    from benchmark.run.runner import evaluate as run

    with Live(console) as live:
        result = run(request, listener=live, probe_s=PROBE)
    for report in entry_points(group="recoverybench.reports"):
        report.load()(result.directory, console, as_json)
    if result.status == "partial":
        for line in _failed(result):
            console.print(line, soft_wrap=True, highlight=False)
        raise typer.Exit(FAILED)


def _failed(result: Result) -> Iterator[str]:
    """The last lines of a run in which cells failed."""
    shown = result.failures[:SHOWN]
    yield f"{result.failed} cells failed:"
    yield from (f"  {line}" for line in shown)
    if len(result.failures) > SHOWN:
        yield f"  and {len(result.failures) - SHOWN} more"
    yield f"tracebacks: {result.directory / 'events.jsonl'}; repeat the command to try them again (exit code {FAILED})"


def status(
    run_dir: Annotated[Path, typer.Argument(help="A run directory, finished or not.")], as_json: Json = False
) -> None:
    """Say how far a run is, from any terminal or machine that sees its directory."""
    from benchmark.run.progress import progress

    found = progress(run_dir)
    if as_json:
        print(json.dumps(found.describe(), indent=2))
        return
    console = terminal()
    left = "" if found.left is None else f", about {_long(found.left)} left"
    failed = f", {found.failures} failures" if found.failures else ""
    console.print(f"{found.status}: {found.done} of {found.total} cells, {_long(found.seconds)}{left}{failed}")
    for worker, what in found.at.items():
        console.print(f"  {worker}: {what}", soft_wrap=True, highlight=False, markup=False)
    table = plain_table("task", "defense", "cells done")
    for (task, defense), (done, total) in found.cells.items():
        table.add_row(task, defense, f"{done} of {total}")
    console.print(table)


def _long(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"


@requesting("defense", *MEASURED_ON, "options")
def validate(request: Request, as_json: Json = False) -> None:
    """Check a defense's promises: finite, deterministic, undone after use, gradient flows, alone as in a batch."""
    from benchmark.run.groups import groups
    from benchmark.run.prepare import prepare
    from benchmark.run.validate import check_promises

    rows: list[dict[str, Any]] = []
    plain = request.model_copy(update={"controls": False})
    for name, group in groups(prepare(plain, terminal(stderr=as_json).print)):
        rows += [{"defense": name, "task": group.task.name, **f._asdict()} for f in check_promises(group)]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        table = plain_table("defense", "task", "promise", "kept", "evidence")
        for row in rows:
            kept = {True: Text("yes"), False: Text("NO", "bold red"), None: Text("(shown)")}[row["kept"]]
            table.add_row(row["defense"], row["task"], row["promise"], kept, row["evidence"])
        terminal().print(table)
    if any(row["kept"] is False for row in rows):
        raise typer.Exit(1)


@requesting()
def plan(
    request: Request,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Measure the suite's constants and write them into its file.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say before any work what an evaluation would fetch, run and take; or measure a suite's constants. It takes
    evaluate's options, and downloads nothing."""
    from benchmark.run.preflight import preflight

    if freeze:
        return _freeze(request)
    console = terminal(stderr=as_json)
    found = preflight(request, console)
    if as_json:
        print(json.dumps(found, indent=2))


def _freeze(request: Request) -> None:
    from benchmark.run.freeze import write_into
    from benchmark.run.needs import connection
    from benchmark.run.own import check_in_file
    from benchmark.run.prepare import opened
    from benchmark.suite_file import suite_path

    check_in_file(request)
    path = suite_path(request.suite)
    with connection(request.offline):
        found = opened(request, terminal().print, whole=True)
        for name in found.tasks:  # one by one: a task takes minutes on a real model, and none is lost
            write_into(path, {name: found.measured(name)})
            terminal().print(f"wrote the constants of {name} into {path}", soft_wrap=True)


@requesting(*MEASURED_ON, "executor", "address")
def doctor(request: Request, as_json: Json = False) -> None:
    """Look at this machine and at the model at hand: caches, self-tests of the engine on it, health of its SAEs. With
    --executor ray, at every machine of the cluster too."""
    from benchmark.run.doctor import Check, examined, failed

    console, checks = terminal(stderr=as_json), list[Check]()
    for check in examined(request):
        checks.append(check)
        word = {True: Text("ok", "green"), False: Text("FAILED", "bold red"), None: Text("")}[check.ok]
        console.print(Text.assemble(f"{check.what}: ", word, f" {check.evidence}"), soft_wrap=True)
        if check.ok is False and check.remedy:
            console.print(f"    {check.remedy}", soft_wrap=True)
    if as_json:
        print(json.dumps([check._asdict() for check in checks], indent=2))
    if failed(checks):
        raise typer.Exit(1)


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="tasks, defenses, attacks, threats, judges, suites, sources or protocols; none: how many of each.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what is registered, ours and third parties'; what cannot be loaded is listed as broken."""
    from benchmark.catalogue import counted, listed

    rows: list[dict[str, Any]] = [dict(row) for row in listed(kind)] if kind is not None else counted()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = (
        plain_table("name", "what it is")
        if kind is not None
        else plain_table("kind", "names; `bench list KIND` lists them")
    )
    for row in rows:
        broken = "broken: " if row.get("status") == "broken" else ""
        table.add_row(row.get("name") or row["kind"], f"{broken}{row.get('summary', row.get('count'))}")
    terminal().print(table)


def show(
    name: Annotated[str, typer.Argument(help="Name of anything that `bench list` tells.")],
    as_json: Json = False,
) -> None:
    """Show one registered thing with its settings and their defaults."""
    from benchmark.catalogue import described

    found = described(name)
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    console = terminal()
    console.print(Text.assemble(f"{found['kind']} ", (found["name"], "bold"), f"  {found['where']}"))
    console.print(found["about"])
    if found["settings"]:
        table = plain_table("setting", "default", "meaning")
        for setting in found["settings"]:
            table.add_row(setting["name"], str(setting["default"]), setting["meaning"])
        console.print(table)
