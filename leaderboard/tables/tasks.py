"""One task under one defense: its attacks, controls below them, and the flags that they raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from leaderboard.board.schema import TaskResult, Threat
from leaderboard.scores.curves import Curve
from leaderboard.tables.attacks import attack_tables
from leaderboard.tables.detection import detection_line, detection_tables
from leaderboard.tables.parts import part_tables
from leaderboard.tables.wording import number, precise, share


def task_table(
    task: str,
    result: TaskResult,
    threats: Mapping[str, Threat],
    width: int = 120,
    record: Mapping[str, JsonValue] | None = None,
) -> Group:
    """Everything about one task.

    Args:
        threats: by name, those of its cells.
        width: of the console.
        record: what the defense says of its fit.
    """
    head = f"{task}: {result.suppressed} of {result.eligible} eligible examples suppressed: RS(0) {share(result.rs0)}"
    codes = sorted({(flag.code, flag.effect) for flag in result.flags})
    numbers = {code: number for number, (code, _) in enumerate(codes, start=1)}
    tables = [
        *attack_tables(result.cells, threats, numbers, width),
        *detection_tables(result.cells, threats, width),
        *part_tables(result.cells, threats),
    ]
    seen = [] if result.detection is None else [detection_line(result.detection)]
    lines = [
        *_fitted(record or {}),
        *_defended(result),
        *_figures(result),
        *_paired(result),
        *_areas(result),
        *_steerability(result),
        *seen,
    ]
    return Group(Text(head, style="bold"), *lines, *_spaced(tables), *_notes(result, numbers))


def _notes(result: TaskResult, numbers: Mapping[str, int]) -> list[Text]:
    return [
        Text(f"[{numbers[flag.code]}] {flag.code} ({flag.effect}) {flag.where}: {flag.sentence}", style="yellow")
        for flag in sorted(result.flags, key=lambda flag: numbers[flag.code])
    ]


def _spaced(parts: Sequence[Table | Text]) -> list[RenderableType]:
    """Tables with a blank line above."""
    return [Padding(part, (1, 0, 0, 0)) if isinstance(part, Table) else part for part in parts]


def _fitted(record: Mapping[str, JsonValue]) -> list[Text]:
    """What was settled on while it learned, and what that reached there."""
    plain = {name: value for name, value in record.items() if isinstance(value, str | int | float)}
    told = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in plain.items()]
    return [Text(f"fitted: {', '.join(told)}", style="dim")] if told else []


def _plain(value: str | int | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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


def _paired(result: TaskResult) -> Iterator[Text]:
    """One line a measure of documents: without and with the defense, and the change."""
    for one in (*result.side_effects, *result.utility_tasks):
        form = ".3f" if one.unit == "share" else ".4g"
        figures = f"{number(one.base, form)} undefended, {number(one.defended, form)} defended"
        change = "change" if one.unit == "share" else "change of its log"
        yield Text(f"{one.name}, {one.metric} (n {one.n}): {figures}; {change} {precise(one.change)}")


def _numbers(values: Mapping[str, JsonValue]) -> str:
    known = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {number(value, '.3f')}" for name, value in known.items())


def _areas(result: TaskResult) -> list[Text]:
    """The areas of all curves on one line, the diagnostic ones too; behind each the selective one."""
    if not any(cell.role == "attack" for cell in result.cells):
        return []
    areas = ", ".join(f"{_curve_name(curve)}: {_area(curve)}" for curve in result.curves.values())
    return [Text("AURC " + (areas or "is not known: no attack ran at every ranked budget"))]


def _area(curve: Curve) -> str:
    selective = f", sel {number(curve.selective.aurc.value)}" if curve.selective else ""
    return f"{share(curve.raw.aurc)}{selective}"


def _steerability(result: TaskResult) -> Iterator[Text]:
    """One line a threat model: what a wrong target takes at the largest ranked budget."""
    for name, found in result.steerability.items():
        last = found.budgets[-1] if found.budgets else None
        reach = "" if last is None else f"{share(last.defended)} steered, {share(last.undefended)} undefended; "
        shown = f"{number(found.shown.value)} shown before any attack"
        gaps = [number(v, ".3g") for v in (found.eps_per_margin_true, found.eps_per_margin_wrong)]
        yield Text(f"wrong target, {name}: {reach}{shown}; eps per margin true {gaps[0]}, wrong {gaps[1]}")


def _curve_name(curve: Curve) -> str:
    return curve.threat_model if curve.tau is None else f"{curve.threat_model} with drift <= {number(curve.tau)}"
