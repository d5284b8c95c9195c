"""The shape of ``leaderboard.json``: numbers as numbers, null where something does not apply, never NaN.

What holds a score is defined where the score is (``leaderboard.scores``, ``leaderboard.doubt``). A field that changes
its meaning or disappears raises ``SCHEMA_VERSION``; a new one does not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from leaderboard.doubt.flags import Flag
from leaderboard.doubt.verdicts import Verdict
from leaderboard.rows.manifest import Role, Unit
from leaderboard.scores.cells import CellScores, Cost
from leaderboard.scores.headline import Headline
from leaderboard.scores.paired import PairedScore
from leaderboard.scores.ranking import Rank
from leaderboard.scores.stability import Stability
from leaderboard.scores.tasks import TaskScores
from leaderboard.scores.values import Estimate, Strict

SCHEMA_VERSION = 5
SCHEMA_FILE = Path(__file__).with_name("leaderboard.schema.json")


class Cell(CellScores):
    """One attack under one threat model and constraint, on one task and defense."""

    flags: list[Flag]


class TaskResult(TaskScores):
    """One task under one defense."""

    cells: list[Cell]
    flags: list[Flag]
    """All flags of the task, those of its cells included."""
    utility_tasks: list[PairedScore] = []
    """What lm-eval says of the model with the defense fitted on this task; empty: it was not asked."""
    side_effects: list[PairedScore] = []
    """What the task says of its retain set, example by example: over-refusal, say."""


class Threat(Strict):
    """What a threat model says of itself."""

    unit: Unit
    """Of its budgets. residual: a share of the site's residual norm; embedding: a share of the embedding norm; tokens:
    a number."""
    role: Role
    """primary, baseline: enters the score; diagnostic: shown only."""
    reaches_less_than: str | None
    """A threat model that can do all that this one can, at equal budgets; null: none."""


class Control(Strict):
    """A control beside the attacks, at its largest ranked budget."""

    name: str
    task: str
    threat_model: str
    constraint: str
    budget: float
    """In the unit of the threat model."""
    recovered: int
    suppressed: int


class DefenseInfo(Strict):
    """What was evaluated."""

    name: str
    spec_sha: str
    record: dict[str, dict[str, JsonValue]]
    """By task: what fitting chose; long lists are given as their length."""


class ModelInfo(Strict):
    """The model that was defended."""

    id: str
    source: str | None
    revision: str | None
    weights_sha: str | None


class Provenance(Strict):
    """Where the numbers come from."""

    run_id: str
    started: str | None
    finished: str | None
    status: str
    protocol: str
    ranked: bool
    """Scores of the protocol compare with those of other runs."""
    limit: float | None
    seed: int
    dtype: str
    device: str
    git: dict[str, JsonValue]
    versions: dict[str, JsonValue]
    examples_hash: dict[str, str | None]
    """By task: hash of the test examples."""


Tier = Literal["claimed", "recomputed", "replayed", "re-run"]
"""What a maintainer has checked of an entry, each with all before it: nothing; that every score follows from the rows;
that the stored perturbations do on the live model what the rows say; that a sample of the attacks, run again and
harder, finds nothing new."""


class Submission(Strict):
    """Who handed an entry in, and what has become of it."""

    organisation: str
    title: str
    """What the submitter calls the defense."""
    paper: str | None
    """Address."""
    code: str | None
    """Address."""
    licence: str
    """SPDX expression."""
    submitted: str
    """Day, ISO 8601."""
    attempts: int
    """Entries that the organisation has handed in to this suite, withdrawn ones included."""
    withdrawn: str | None
    """Why; null: it stands."""
    tier: Tier
    place: str
    """Folder of the entry, below that of all entries."""


class Credit(Strict):
    """A stronger attack that brought back what held."""

    organisation: str
    attack: str
    settings: dict[str, JsonValue]
    """On top of the suite's."""
    submitted: str
    """Day, ISO 8601."""
    fell: int
    """Rows, each an example at a budget, that held against the suite's attacks and do not any more."""
    gave_way: int
    """Examples that held at the largest ranked budget of a threat model, and came back."""


class BestKnown(Strict):
    """All attacks that were ever run against an entry, together: the per-example worst case."""

    wrs: Estimate
    per_task: dict[str, Estimate]
    credits: list[Credit]


class Entry(Strict):
    """One defense on one model, in one run."""

    defense: DefenseInfo
    model: ModelInfo
    threats: dict[str, Threat]
    """By name: the threat models of the run."""
    headline: Headline
    per_task: dict[str, TaskResult]
    utility: float | None
    """Smallest share retained over the tasks."""
    controls: list[Control]
    flags: list[Flag]
    verdict: Verdict
    rank: Rank | None
    cost: Cost
    provenance: Provenance
    best_known: BestKnown | None = None
    """It is ranked by this; null: nobody has challenged it."""
    submission: Submission | None = None
    """Null: a run that nobody has handed in."""


class Comparison(Strict):
    """Two defenses on one task, by resamples of clusters that both share."""

    task: str
    threat_model: str
    """A primary one."""
    first: str
    second: str
    runs: tuple[str, str]
    """Of the first and the second: several entries may be of defenses of one name."""
    aurc: Estimate
    """Of the first less that of the second; above 0: the first holds better."""
    p: float
    """Two-sided, Holm's correction over all comparisons of the pair."""


class SuiteInfo(Strict):
    """The suite that every entry ran."""

    name: str
    version: str
    hash: str
    tasks: list[str]
    """An entry that lacks one of them is not ranked."""


class SuiteBoard(Strict):
    """One suite: scores of different suites do not compare."""

    suite: SuiteInfo
    entries: list[Entry]
    """Ranked ones first, best first."""
    comparisons: list[Comparison]
    """Of every two attacked defenses of one model."""
    stability: list[Stability] = []
    """Of every defense that was evaluated with several SAEs of a site."""


class Leaderboard(Strict):
    """The whole file."""

    schema_version: Literal[5] = SCHEMA_VERSION
    generated_at: str
    """UTC, ISO 8601."""
    suites: list[SuiteBoard]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of ``leaderboard.json``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Leaderboard.model_json_schema()}


def export() -> None:
    """Write ``leaderboard.schema.json`` beside this file."""
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    export()
