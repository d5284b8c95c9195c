"""Defenses over several SAEs of a site: how far their figures lie apart, and what their latents have in common."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from leaderboard.scores.stability import Spread, Stability
from leaderboard.tables.wording import number, precise, share


def stability_tables(found: Sequence[Stability]) -> list[RenderableType]:
    """Two tables, if a defense was evaluated with several SAEs, and which these are."""
    if not found:
        return []
    legend = (
        "cosines of decoder rows: of the first's protected latents with the likest of the other SAE, of other latents "
        "that are active as often, and one to one with the second's; fires: share of the fit tokens"
    )
    tables = [table for table in (_spreads(found), _pairs(found)) if table.row_count]
    head = Text("Over SAEs", style="bold")
    return [head, *_sources(found), *tables, Padding(Text(legend, style="dim"), (0, 0, 1, 0))]


def _sources(found: Sequence[Stability]) -> list[Text]:
    """One line an edition and site, where they differ."""
    lines = [
        f"{name}: {site} {source}"
        for one in found
        for name, saes in one.saes.items()
        for site, source in saes.items()
        if any(others.get(site) != source for others in one.saes.values())
    ]
    return [Text(line, style="dim") for line in lines]


def _spreads(found: Sequence[Stability]) -> Table:
    table = Table("defense", "task", "figure", "min", "max", "range", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for one in found:
        _add(table, one.defense, "all", {"WRS": one.wrs})
        for task, on in one.per_task.items():
            _add(table, one.defense, task, {"score": on.score, "RS(0)": on.rs0, "retained": on.retained})
    return table


def _add(table: Table, defense: str, task: str, figures: dict[str, Spread]) -> None:
    for name, spread in figures.items():
        table.add_row(defense, task, name, share(spread.min), share(spread.max), precise(spread.range))


def _pairs(found: Sequence[Stability]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in (
        "latents of\nin the SAE of",
        "task\nsite",
        "n",
        "likest",
        "others'",
        "one to\none",
        "fires\npartner",
    ):
        table.add_column(heading)
    for one in found:
        for task, on in one.per_task.items():
            for pair in on.pairs:
                table.add_row(
                    f"{pair.first}\n{pair.second}",
                    f"{task}\n{pair.site}",
                    str(len(pair.best)),
                    number(pair.best_cosine),
                    number(pair.baseline_cosine),
                    number(pair.one_to_one_cosine),
                    f"{number(pair.frequency, '.3f')}\n{number(pair.partner_frequency, '.3f')}",
                )
    return table
