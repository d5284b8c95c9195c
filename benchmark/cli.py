"""The command `bench`: it mounts the verbs that packages bring along and knows none of them.

A verb is an entry point of the group ``recoverybench.commands``: a function with typer's annotations, a typer app, or a
``benchmark.verb.Verb``. Its module is imported when it is called, or to list it: heavy libraries are imported inside
the function.

Exit codes: 0 ok, 1 a check failed, 2 usage, 3 some cells failed; 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP)
interrupted with everything finished saved.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from benchmark.errors import BenchError, UsageError
from benchmark.registry import Registry
from benchmark.verb import Verb

SIGNALLED = 128
"""An exit code above it is a signal's number on top of it."""

COMMANDS: Registry[Any] = Registry("command", "recoverybench.commands")


class Verbs(TyperGroup):
    """The group of all verbs, imported one by one."""

    def list_commands(self, ctx: Any) -> list[str]:
        return COMMANDS.names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A verb as it is listed: with its help, and without flags."""
        return TyperCommand(cmd_name, help=_help(cmd_name)) if cmd_name in COMMANDS.names() else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that is called, whole.

        Raises:
            UsageError: its package cannot be imported.
        """
        name, _, rest = super().resolve_command(ctx, args)
        return name, mounted(COMMANDS.get(args[0]), args[0]), rest


def mounted(verb: Any, name: str) -> Any:
    """What an entry point gave as a command of the library below typer."""
    if isinstance(verb, typer.Typer):
        command: Any = typer.main.get_group(verb)
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(name)(verb.made() if isinstance(verb, Verb) else verb)
        command = typer.main.get_command(app)
    command.name = name
    return command


def _help(name: str) -> str:
    """What a verb says of itself, or why its package cannot be imported."""
    try:
        verb = COMMANDS.get(name)
    except UsageError as error:
        return escape(f"broken: {error}")
    told = verb if isinstance(verb, Verb) else mounted(verb, name)
    return told.help or ""


app = typer.Typer(
    cls=Verbs,
    help="How much is a latent-space defense worth? Recovery attacks against defenses of language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    """Keeps typer from taking the only command for the program."""


def main() -> None:
    """Entry point: errors of the user's asking become one message and an exit code."""
    try:
        app()
    except BenchError as error:
        _tell(f"[bold red]error:[/bold red] {escape(str(error))}")
        sys.exit(2)
    except SystemExit as stop:
        if isinstance(stop.code, int) and stop.code > SIGNALLED:  # also typer's for Ctrl-C, which says no word
            name = signal.Signals(stop.code - SIGNALLED).name
            _tell(f"interrupted ({name}): finished cells are saved; repeat the command to resume")
        raise


def _tell(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        Console(stderr=True).print(line, soft_wrap=True, highlight=False)
