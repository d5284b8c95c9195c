"""What a person reads after a run: a summary of the defenses, then one table per task, a row per attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from leaderboard.attack_table import attack_tables
from leaderboard.attribution_table import attribution_tables
from leaderboard.detection_table import detection_line, detection_tables
from leaderboard.families import PAPER_TAU
from leaderboard.schema import Comparison, Entry, Leaderboard, TaskResult
from leaderboard.summary_table import summary
from leaderboard.wording import number, share

LEGEND = {
    "eps": "norm of the perturbation, as a share of the stream's norm at the site (soft suffixes: of the embeddings')",
    "tokens": "length of a typed suffix",
    "eps, tokens": "below them: share of the suppressed examples that came back, with its 95 % interval over clusters",
    "sel": "the share that came back at a smaller eps than a matched wrong target; the score counts only these",
    "drift": "median move of the protected features at the first success: absolute, relative to the defended ones",
    "react": "mean share of the protected latents that are switched on again",
    "delta": "median eps of the smallest rescaling that is enough; where not measured, of the first success",
    "degen.": "examples driven to degenerate output instead, at the largest budget: count, share of the suppressed",
    "rec, det, und": "recovered, detected of those, and recovered undetected (of the suppressed, with interval)",
    "RS(0)": "share of the eligible examples that are suppressed when nobody attacks",
    "AURC": "area under the share still suppressed, over log eps: 1 nothing comes back, 0 no defense",
    "WRS": "mean over tasks of the smallest AURC of before_edit and suffixes; after_edit is diagnostic",
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
    seen = [] if result.detection is None else [detection_line(result.detection)]
    more = [*detection_tables(result.cells, width), *attribution_tables(result.cells)]
    head_lines = [*_defended(result), *_figures(result), *_areas(result), *seen]
    return Group(Text(head, style="bold"), *head_lines, *_spaced([*tables, *more]), *notes)


def _spaced(parts: Sequence[Table | Text]) -> list[RenderableType]:
    """Tables with a blank line above."""
    return [Padding(part, (1, 0, 0, 0)) if isinstance(part, Table) else part for part in parts]


def _defended(result: TaskResult) -> list[Text]:
    """Verdicts under the defense where some are degenerate: breaking a model is not suppressing a behavior."""
    broken = result.labels_defended.get("degenerate", 0)
    if not broken:
        return []
    labels = ", ".join(f"{name} {count}" for name, count in result.labels_defended.items())
    return [Text(f"defended outputs: {labels} ({broken / result.eligible:.1%} degenerate)", style="yellow")]


def _figures(result: TaskResult) -> list[Text]:
    """What the task says of the defense: plain numbers on one line, each mapping on its own."""
    plain = {name: value for name, value in result.figures.items() if isinstance(value, int | float)}
    nested = {name: value for name, value in result.figures.items() if isinstance(value, dict)}
    lines = [_numbers(plain)] if plain else []
    return [Text(line) for line in (*lines, *(f"{name}: {_numbers(values)}" for name, values in nested.items()))]


def _numbers(values: Mapping[str, JsonValue]) -> str:
    known = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {number(value, '.3f')}" for name, value in known.items())


def _areas(result: TaskResult) -> list[Text]:
    """The areas of all families on one line, the diagnostic ones too."""
    if not any(cell.role == "attack" for cell in result.cells):
        return []
    tau = result.curves["after_edit_within_tau"].tau if "after_edit_within_tau" in result.curves else None
    names = {
        "after_edit_within_tau": f"after_edit with drift <= tau ({number(tau)})",
        "after_edit_within_paper_tau": f"after_edit with drift <= {number(PAPER_TAU)}",
    }
    areas = [f"{names.get(name, name)}: {share(curve.selective.aurc)}" for name, curve in result.curves.items()]
    return [Text("AURC " + (", ".join(areas) or "is not known: no attack ran at every ranked budget"))]


def _comparisons(found: Sequence[Comparison]) -> list[RenderableType]:
    """Differences between defenses, if there are two."""
    if not found:
        return []
    table = Table(
        "task", "first", "second", "AURC before_edit\nfirst - second", "p (Holm)", box=box.SIMPLE_HEAD, padding=0
    )
    for one in found:
        table.add_row(one.task, one.first, one.second, share(one.aurc_before_edit), number(one.p, ".3f"))
    return [Padding(Text("Paired differences", style="bold"), (1, 0, 0, 0)), table]


def entry_tables(entry: Entry, width: int = 120) -> Group:
    """One defense: its tasks, each with its attacks, and why it is not ranked if it is not."""
    protocol = entry.provenance.protocol
    under = "" if protocol == "strict" else f", protocol {protocol}"
    name = Text(f"{entry.defense.name} on {entry.model.id}{under}", style="bold underline")
    reasons = [Text(f"not ranked: {reason}", style="yellow") for reason in entry.verdict.reasons]
    tasks = [Padding(task_table(task, result, width), (1, 0, 0, 0)) for task, result in entry.per_task.items()]
    return Group(name, *reasons, *tasks)


def render(board: Leaderboard | Entry, console: Console) -> None:
    """Print a whole board or one of its entries."""
    entries: Sequence[Entry] = board.entries if isinstance(board, Leaderboard) else [board]
    parts: list[RenderableType] = [
        *(Padding(entry_tables(entry, console.width), (0, 0, 1, 0)) for entry in entries),
        summary(entries, console.width),
        *_comparisons(board.comparisons if isinstance(board, Leaderboard) else []),
        Padding(legend(), (1, 0, 0, 0)),
    ]
    for part in parts:
        console.print(part)
