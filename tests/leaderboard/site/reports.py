"""Runs to report: a plain one, one whose searches were cut off, and one that means harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leaderboard.rows.run import read_run
from leaderboard.site.report import report
from tests.leaderboard import row_factory as made
from tests.leaderboard.site.boards import ATTRIBUTED, HOSTILE
from tests.leaderboard.site.reading import Page, Table

RESAMPLES = 50
SITES: dict[str, Any] = {
    "written_sites": ["blocks.2.hook_resid_post", "blocks.10.hook_resid_post"],
    "delta_site_norms": [1.0, 2.0],
}


def cells(first: list[float] = made.HALF, **common: Any) -> list[Any]:
    known: dict[str, Any] = {"drift_rel": 0.05, "drift_abs": 0.5, "first_success_drift": 0.5, "margin_attacked": -1.5}
    return [
        *made.residual_cells(first, **known, **ATTRIBUTED, **SITES, **common),
        *made.suffix_cells(first, **common),
    ]


def html_of(run: Path) -> str:
    return report(read_run(run), resamples=RESAMPLES).decode()


def plain(folder: Path) -> Path:
    """Of which half of the examples come back."""
    return made.write_run(folder, cells())


def unsettled(folder: Path) -> Path:
    """Whose searches were cut off; they wrote to one site."""
    first = [0.01] * 2 + [made.NEVER] * 2
    attacks = made.residual_cells(first, flags=["not-converged"], steps=7, **(SITES | {"written_sites": ["one"]}))
    return made.write_run(folder, attacks)


def hostile(folder: Path) -> Path:
    """In which everything is chosen badly that a run may choose."""
    odd: dict[str, Any] = {"example_id": HOSTILE, "cluster_id": HOSTILE, "error": HOSTILE}
    rows = [
        made.row("x", eps, recovered=True, written_sites=[HOSTILE, "b"], delta_site_norms=[1.0, 1.0])
        for eps in made.BUDGETS
    ]
    cells = [made.cell(made.table([one | odd for one in rows]), settings={HOSTILE: HOSTILE})]
    suite = made.suite(["ioi"], name=HOSTILE, version=HOSTILE)
    model = {"id": HOSTILE, "revision": HOSTILE, "weights_sha": HOSTILE}
    return made.write_run(folder, cells, suite=suite, model=model, versions={HOSTILE: HOSTILE})


def captioned(page: Page, caption: str) -> Table:
    return next(one for one in page.tables if one.caption.strip().startswith(caption))


def examples(page: Page) -> Table:
    return next(one for one in page.tables if one.attributes.get("class") == "examples")
