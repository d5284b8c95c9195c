"""The verbs about runs: ``evaluate``, ``validate``, ``plan``; and about what is registered: ``list``, ``show``."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmark.run.flags import Json, requesting
from benchmark.run.request import Request

MEASURED_ON = ("suite", "tasks", "device", "dtype")
"""What decides on which model and tasks a defense is looked at."""


@requesting()
def evaluate(request: Request, as_json: Json = False) -> None:
    """Evaluate defenses: fit, attack, measure, and print a table per task. The same command again resumes."""
    from benchmark.run.display import Live
    from benchmark.run.runner import evaluate as run

    console = Console(stderr=as_json)
    with Live(console) as live:
        result = run(request, listener=live)
    for report in entry_points(group="recoverybench.reports"):
        report.load()(result.directory, console, as_json)
    if result.status == "partial":
        raise typer.Exit(3)


@requesting("defense", *MEASURED_ON, "options")
def validate(request: Request, as_json: Json = False) -> None:
    """Check a defense's promises: finite, deterministic, undone after use, gradient flows, alone as in a batch."""
    from benchmark.run.groups import groups
    from benchmark.run.prepare import prepare
    from benchmark.run.validate import check_promises

    rows: list[dict[str, Any]] = []
    for name, group in groups(prepare(request.model_copy(update={"controls": False}))):
        rows += [{"defense": name, "task": group.task.name, **f._asdict()} for f in check_promises(group)]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        table = Table("defense", "task", "promise", "kept", "evidence", box=None, pad_edge=False)
        for row in rows:
            kept = {True: "yes", False: "[bold red]NO[/bold red]", None: "(shown)"}[row["kept"]]
            table.add_row(row["defense"], row["task"], row["promise"], kept, row["evidence"])
        Console().print(table)
    if any(row["kept"] is False for row in rows):
        raise typer.Exit(1)


@requesting("defense", *MEASURED_ON, "attacks", "limit", "options", "protocol")
def plan(
    request: Request,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Measure the suite's constants and write them into its file.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the cells that an evaluation would run, or measure a suite's constants."""
    from benchmark.run.freeze import write_into
    from benchmark.run.prepare import prepare
    from benchmark.suite import suite_path

    prepared = prepare(request)
    if freeze:
        constants = {name: prepared.measured(name, whole=True) for name in prepared.plan.tasks}
        path = suite_path(request.suite)
        write_into(path, constants)
        Console().print(f"wrote the constants of {', '.join(constants)} into {path}", soft_wrap=True)
        return
    described = prepared.plan.describe()
    if as_json:
        print(json.dumps(described, indent=2))
        return
    table = Table("key", "task", "defense", "attack", "threat model", "constraint", "budgets", box=None, pad_edge=False)
    for cell in described["cells"]:
        budgets = ", ".join(f"{b:g}" for b in cell["budgets"])
        table.add_row(*(cell[k] for k in ("key", "task", "defense", "attack", "threat_model", "constraint")), budgets)
    Console().print(table)


def list_names(
    kind: Annotated[
        str, typer.Argument(help="tasks, defenses, attacks, threats, judges, suites, sources or protocols.")
    ],
    as_json: Json = False,
) -> None:
    """List what is registered, ours and third parties'; what cannot be loaded is listed as broken."""
    from benchmark.catalogue import listed

    rows = listed(kind)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("name", "what it is", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["name"], row["summary"] if row["status"] == "ok" else f"broken: {row['summary']}")
    Console().print(table)


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
    console = Console()
    console.print(f"{found['kind']} [bold]{found['name']}[/bold]  {found['where']}", highlight=False)
    console.print(found["about"], markup=False, highlight=False)
    if found["settings"]:
        table = Table("setting", "default", "meaning", box=None, pad_edge=False)
        for setting in found["settings"]:
            table.add_row(setting["name"], str(setting["default"]), setting["meaning"])
        console.print(table)
