"""What a person reads after a run: a summary of the defenses, then one table per task, a row per attack."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from leaderboard.attack_table import attack_tables
from leaderboard.schema import Entry, Leaderboard, TaskResult
from leaderboard.summary_table import summary
from leaderboard.wording import share

LEGEND = {
    "eps": "norm of the perturbation, as a share of the stream's norm at the site (suffixes: of the embeddings')",
    "eps columns": "share of the suppressed examples that came back, with its 95 % interval over clusters",
    "sel": "the share that came back at a smaller eps than a matched wrong target; the score counts only these",
    "drift": "median move of the protected features at the first success: absolute, relative to the defended ones",
    "react": "mean share of the protected latents that are switched on again",
    "delta": "median eps of the first success",
    "RS(0)": "share of the eligible examples that are suppressed when nobody attacks",
    "AURC": "area under the share still suppressed, over log eps: 1 nothing comes back, 0 no defense",
    "WRS": "mean over tasks of the smaller AURC of before_edit and suffix attacks (after_edit is diagnostic)",
    "eps50": "eps at which half of the suppressed examples are back (before_edit, the worst task)",
}
"""What the words of the tables mean."""


def legend() -> Table:
    """The words of the tables, one line each."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="dim")
    for word, meaning in LEGEND.items():
        table.add_row(word, meaning)
    return table


def task_table(task: str, result: TaskResult, width: int = 120) -> Group:
    """The attacks on one task under one defense, controls below them, and the flags that they raised."""
    head = f"{task}: {result.suppressed} of {result.eligible} eligible examples suppressed: RS(0) {share(result.rs0)}"
    codes = sorted({(flag.code, flag.effect) for flag in result.flags})
    numbers = {code: number for number, (code, _) in enumerate(codes, start=1)}
    notes = [
        Text(f"[{numbers[flag.code]}] {flag.code} ({flag.effect}) {flag.where}: {flag.sentence}", style="yellow")
        for flag in sorted(result.flags, key=lambda flag: numbers[flag.code])
    ]
    tables = attack_tables(result.cells, numbers, width)
    return Group(Text(head, style="bold"), *_areas(result), *_spaced(tables), *notes)


def _spaced(parts: Sequence[Table | Text]) -> list[RenderableType]:
    """Tables with a blank line above."""
    return [Padding(part, (1, 0, 0, 0)) if isinstance(part, Table) else part for part in parts]


def _areas(result: TaskResult) -> list[Text]:
    """The areas of all families on one line, the diagnostic ones too."""
    if not any(cell.role == "attack" for cell in result.cells):
        return []
    names = {"after_edit_within_tau": "after_edit with drift <= tau"}
    areas = [f"{names.get(name, name)} {share(curve.selective.aurc)}" for name, curve in result.curves.items()]
    return [Text("AURC: " + (", ".join(areas) or "no attack ran at every ranked budget"))]


def entry_tables(entry: Entry, width: int = 120) -> Group:
    """One defense: its tasks, each with its attacks, and why it is not ranked if it is not."""
    name = Text(f"{entry.defense.name} on {entry.model.id}", style="bold underline")
    reasons = [Text(f"not ranked: {reason}", style="yellow") for reason in entry.verdict.reasons]
    tasks = [Padding(task_table(task, result, width), (1, 0, 0, 0)) for task, result in entry.per_task.items()]
    return Group(name, *reasons, *tasks)


def render(board: Leaderboard | Entry, console: Console) -> None:
    """Print a whole board or one of its entries."""
    entries: Sequence[Entry] = board.entries if isinstance(board, Leaderboard) else [board]
    parts: list[RenderableType] = [
        *(Padding(entry_tables(entry, console.width), (0, 0, 1, 0)) for entry in entries),
        summary(entries),
        Padding(legend(), (1, 0, 0, 0)),
    ]
    for part in parts:
        console.print(part)
