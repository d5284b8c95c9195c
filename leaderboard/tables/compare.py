"""Two defenses side by side, or two ways of attacking one: tables of differences, and the verdict in a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leaderboard.board.against import Against, BaselineComparison
from leaderboard.board.compare import Differences, TaskDifference
from leaderboard.scores.compared import Compared
from leaderboard.tables.wording import MISSING, number, share

LISTED = 12
"""Examples of a kind that are listed; ``--json`` has all."""
LEGEND = (
    "AURC: area under the share still suppressed, over log eps (1: nothing comes back)",
    "p: two-sided, Holm's correction over the scored threat models of all tasks",
    "detectable: the smallest true difference that would be found in four of five such comparisons",
    "held by: examples, up to the largest budget, that the first / the second alone holds",
)


AGAINST_LEGEND = (
    "the ceiling: each one's largest ranked budget, above which the undefended model is steered too",
    "selectively: at a smaller budget than a wrong target takes on the undefended model",
    "a dash: no budget is so small, or it is not known",
    "AURC: area under the share still suppressed, over log eps up to the ceiling; below 0, the first brings more back",
)


def render(found: Differences, console: Console) -> None:
    """Print the comparison."""
    title = f"{found.first.defense} (first) and {found.second.defense} (second) on {found.suite}"
    console.print(Text(title, style="bold underline"))
    console.print(_table(found))
    for line in (*_flipped(found), *(f"not compared: {one}" for one in found.left_out)):
        console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
    console.print(verdict(found), highlight=False, markup=False, soft_wrap=True)
    for line in LEGEND:
        console.print(line, style="dim", highlight=False, markup=False)


def verdict(found: Differences) -> str:
    """What a check would say."""
    first, second = f"the first ({found.first.defense})", f"the second ({found.second.defense})"
    if found.lost:
        where = ", ".join(f"{task} ({threat})" for task, threat in found.lost)
        return f"{second} holds worse than {first} on {where}"
    return f"{second} holds nowhere significantly worse than {first}"


def render_against(found: BaselineComparison, console: Console) -> None:
    """Print the ways of attacking one defense."""
    console.print(Text(f"{found.defense.defense} on {found.suite}, against {found.against}", style="bold underline"))
    for one in found.per_task:
        console.print(Text(f"{one.task}: {one.suppressed} suppressed, {one.clusters} clusters", style="bold"))
        console.print(_against(one))
    for task in found.left_out:
        console.print(f"not compared: {task} (not attacked in both ways)", style="dim", highlight=False, markup=False)
    for line in AGAINST_LEGEND:
        console.print(line, style="dim", highlight=False, markup=False)


def _against(one: Against) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("", one.first, one.second, "difference"):
        table.add_column(heading, no_wrap=True)
    for at in one.reach:
        for label, back in ((f"back at {at.share:g} of the ceiling", at.any), ("  selectively", at.selective)):
            table.add_row(label, share(back.first), share(back.second), share(back.difference))
    if one.area is not None:
        table.add_row("AURC", *_cells(one.area))
    first, second = one.effort
    table.add_row("drift at first success", number(first.drift_abs), number(second.drift_abs), "")
    table.add_row("forwards an example", number(first.forwards, ".0f"), number(second.forwards, ".0f"), "")
    return table


def _table(found: Differences) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("", "first", "second", "first - second", "p", "detectable", "held by"):
        table.add_column(heading, no_wrap=bool(heading))
    if found.score is not None:
        table.add_row("WRS", *_cells(found.score), MISSING, number(found.score.detectable), "", style="bold")
    for task, one in found.per_task.items():
        table.add_row(f"{task}: {one.eligible} examples, {one.clusters} clusters", style="bold")
        for line in _lines(one):
            table.add_row(*line)
    return table


def _lines(one: TaskDifference) -> Iterator[Sequence[str]]:
    if one.rs0 is not None:
        yield ("  RS(0)", *_cells(one.rs0), MISSING, number(one.rs0.detectable), "")
    for name, threat in one.threats.items():
        held = f"{len(threat.flips.first)} / {len(threat.flips.second)}"
        label = f"  AURC {name}" + ("" if threat.p is not None else " (not scored)")
        yield (label, *_cells(threat.area), number(threat.p, ".3f"), number(threat.area.detectable), held)
    first, second = one.retained
    if first is not None and second is not None:
        yield ("  kept", number(first, ".3f"), number(second, ".3f"), number(first - second, ".3f"), MISSING, "", "")


def _cells(one: Compared) -> tuple[str, str, str]:
    return number(one.first), number(one.second), share(one.difference)


def _flipped(found: Differences) -> Iterator[str]:
    """The examples behind each scored difference."""
    for task, one in found.per_task.items():
        for name, threat in one.threats.items():
            sides = (("first", threat.flips.first), ("second", threat.flips.second))
            for side, ids in sides if threat.p is not None else ():
                if ids:
                    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
                    yield f"{task}, {name}: the {side} alone holds {', '.join(ids[:LISTED])}{more}"
