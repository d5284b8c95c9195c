"""The command `bench`: the only file that knows everything. Heavy libraries are imported where they are used.

Exit codes: 0 ok, 1 a check failed, 2 usage, 3 some cells failed, 130 interrupted with everything finished saved.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmark.errors import BenchError, UsageError

INTERRUPTED = 130

app = typer.Typer(
    help="How much is a latent-space defense worth? Recovery attacks against defenses of language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
organism_app = typer.Typer(help="The model organism that ships with the benchmark.", no_args_is_help=True)
app.add_typer(organism_app, name="organism")

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output; everything else goes to standard error.")
]
DefenseName = Annotated[
    list[str], typer.Option("--defense", "-d", help="Registered name, file.py:Class, or a YAML/JSON spec. Repeatable.")
]
Suite = Annotated[str, typer.Option("--suite", "-s", help="Registered suite or YAML file.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", "-t", help="Task of the suite. Repeatable; default: all.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")]
Options = Annotated[list[str] | None, typer.Option("-D", help="Setting of the defense, key=value. Repeatable.")]


@app.command()
def evaluate(
    defense: DefenseName = ["sae-clamp"],  # noqa: B006 typer copies it
    task: Tasks = None,
    attack: Annotated[
        list[str] | None, typer.Option("--attack", "-a", help="Attack. Repeatable; default: the suite's.")
    ] = None,
    suite: Suite = "embedded",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Test examples a task, for trying out; never ranked.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Run directory; repeat to resume.")
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Rows of a forward pass, or auto. Never changes a result.")] = "auto",
    device: Device = "auto",
    dtype: Dtype = "float32",
    seed: Annotated[int, typer.Option(help="One seed for everything; recorded.")] = 0,
    controls: Annotated[bool, typer.Option(help="Also classify `none` and the defense's own control.")] = True,
    attribution: Annotated[bool, typer.Option(help="Also replay the parts of every recovery's perturbation.")] = False,
    option: Options = None,
    protocol: Annotated[
        str, typer.Option(help="strict, or paper: the published study's semantics, never ranked.")
    ] = "strict",
    as_json: Json = False,
) -> None:
    """Evaluate defenses: fit, attack, measure, and print a table per task. The same command again resumes."""
    _quiet()
    from benchmark.run.display import Live
    from benchmark.run.runner import evaluate as run

    console = Console(stderr=as_json)
    with Live(console) as live:
        result = run(
            defense,
            suite=suite,
            tasks=task,
            attacks=attack,
            limit=limit,
            output_dir=output_dir,
            batch_size=_batch_size(batch_size),
            device=device,
            dtype=dtype,
            seed=seed,
            controls=controls,
            attribution=attribution,
            options=_options(option),
            protocol=protocol,
            listener=live,
        )
    _publish(result.directory, console, as_json)
    if result.status == "partial":
        raise typer.Exit(3)


def _publish(directory: Path, console: Console, as_json: bool) -> None:
    """Score a run, write its leaderboard.json and print it."""
    from leaderboard.aggregate import leaderboard, read_run, write
    from leaderboard.tables import render

    board = leaderboard([read_run(directory)])
    write(board, directory / "leaderboard.json")
    if as_json:
        print(board.model_dump_json(indent=2))
    else:
        render(board, console)
    console.print(f"rows, plan and leaderboard.json: {directory}", soft_wrap=True, highlight=False)


@app.command("list")
def list_names(
    kind: Annotated[str, typer.Argument(help="tasks, defenses, attacks, judges or suites.")],
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


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a task, defense, attack, judge or suite.")],
    as_json: Json = False,
) -> None:
    """Show one registered thing with its settings and their defaults."""
    from benchmark.catalogue import shown

    found = shown(name)
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


@app.command()
def validate(
    defense: DefenseName,
    task: Tasks = None,
    suite: Suite = "embedded",
    device: Device = "auto",
    dtype: Dtype = "float32",
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Check a defense's promises: finite, deterministic, undone after use, gradient flows, alone as in a batch."""
    _quiet()
    from benchmark.run.fitting import groups
    from benchmark.run.prepare import prepare
    from benchmark.run.validate import check_promises

    prepared = prepare(
        defense, suite=suite, tasks=task, device=device, dtype=dtype, controls=False, options=_options(option)
    )
    rows: list[dict[str, Any]] = []
    for name, group in groups(prepared):
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


@app.command()
def plan(
    defense: DefenseName = ["sae-clamp"],  # noqa: B006 typer copies it
    task: Tasks = None,
    suite: Suite = "embedded",
    freeze: Annotated[bool, typer.Option(help="Measure the suite's constants and write them into its file.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show the cells that an evaluation would run, or measure a suite's constants."""
    _quiet()
    from benchmark.run.prepare import prepare

    prepared = prepare(defense, suite=suite, tasks=task, device=device)
    if freeze:
        from benchmark.run.freeze import measure, write_into
        from benchmark.suite import suite_path

        chosen = prepared.plan.suite.tasks
        constants = {n: measure(prepared.subject, t, chosen[n], prepared.rows) for n, t in prepared.plan.tasks.items()}
        write_into(suite_path(suite), constants)
        Console().print(f"wrote the constants of {', '.join(constants)} into {suite_path(suite)}", soft_wrap=True)
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


@app.command()
def audit(
    suite: Suite = "embedded",
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Where audit.json and the figure go.")] = Path(
        "runs/audit"
    ),
    limit: Annotated[
        int, typer.Option(min=4, help="Examples that are attacked; half as many where texts are written.")
    ] = 24,
    only: Annotated[list[str] | None, typer.Option(help="Switch to show. Repeatable; default: all.")] = None,
    figure: Annotated[bool, typer.Option(help="Draw audit.svg and audit.png, too.")] = True,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show each defect of the published protocol beside the same measurement without it."""
    _quiet()
    from benchmark.audit.figure import draw, pyplot
    from benchmark.audit.run import audit as run
    from benchmark.audit.run import write
    from benchmark.audit.table import table

    if figure:
        pyplot()  # what is missing is told before any work
    console = Console(stderr=True)
    with console.status("loading the model") as status:
        found = run(suite, limit=limit, switches=only, device=device, begun=status.update)
    write(found, output_dir)
    if figure:
        draw(found, output_dir)
    if as_json:
        print(json.dumps(found.describe(), indent=1))
    else:
        Console().print(table(found))
    console.print(f"audit.json{' and figure' if figure else ''}: {output_dir}", soft_wrap=True, highlight=False)


@app.command()
def figures(
    runs: Annotated[list[Path], typer.Argument(help="Finished run directories.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder of the figures.")] = Path("figures"),
) -> None:
    """Draw recovery over budgets, drift against recovery, and replayed parts from finished runs."""
    from leaderboard.figures import draw
    from leaderboard.runs import read_run

    for path in draw([read_run(run) for run in runs], output_dir):
        print(path)


@organism_app.command("train")
def organism_train(
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Where the weights and the manifest go.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; default: the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of corpus, model and SAEs.")] = 0,
    device: Device = "auto",
) -> None:
    """Train the organism from nothing: corpus, language model, SAEs, manifest. The same command again resumes."""
    _quiet()
    from tasks.organism.train import train

    train(output_dir, seed=seed, steps=steps, device=None if device == "auto" else device)


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--batch-size {text!r}: write auto or a number of rows, at least 1")
    return int(text)


def _options(pairs: list[str] | None) -> dict[str, Any]:
    import yaml

    options = {}
    for pair in pairs or ():
        key, separator, value = pair.partition("=")
        if not separator:
            raise UsageError(f"-D {pair!r}: write key=value")
        options[key.strip().replace("-", "_")] = yaml.safe_load(value)
    return options


def _quiet() -> None:
    """Loading bars and notices of libraries would tear our own display.

    Threads that spin for long while they wait make a small model crawl on a machine that has other work too; ones that
    never do, on a machine that has none.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def main() -> None:
    """Entry point: errors of the user's asking become one message and an exit code."""
    try:
        app()
    except BenchError as error:
        Console(stderr=True).print(f"[bold red]error:[/bold red] {_escape(error)}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # typer has turned Ctrl-C into this code, without a word
            Console(stderr=True).print("interrupted: finished cells are saved; repeat the command to resume")
        raise


def _escape(error: BenchError) -> str:
    from rich.markup import escape

    return escape(str(error))
