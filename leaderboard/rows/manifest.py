"""``run.json``: what was run, and what it knows about its suite, threat models, tasks and defenses."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from leaderboard.rows.recorded import Recorded

Unit = Literal["residual", "embedding", "tokens"]
"""Of budgets: shares of the residual norm, shares of the embedding norm, numbers of tokens."""
Role = Literal["primary", "baseline", "diagnostic"]
"""primary, baseline: enters the score; diagnostic: shown only."""


class AttackRecord(Recorded):
    """An attack that the suite lists."""

    attack: str
    threat_model: str
    constraint: str = "none"

    def __str__(self) -> str:
        return f"{self.attack} ({self.threat_model}/{self.constraint})"


class UtilityTaskRecord(Recorded):
    """What a suite asks of lm-eval."""

    task: str
    keep: float | None = None
    """Share of the undefended model's figure that must be kept; null: shown only."""


class SuiteRecord(Recorded):
    """Which suite was run."""

    name: str
    version: str
    hash: str
    tasks: list[str] | None = None
    """All tasks of the suite, also those that this run left out; null: those of the run."""
    attacks: list[AttackRecord] | None = None
    """All attacks of the suite, controls not among them, also those that this run left out; null: the run does not
    say."""
    undefended: str | None = None
    """The control defense that edits nothing; null: the suite names none."""
    utility: list[UtilityTaskRecord] = []
    """What lm-eval is asked of every evaluated defense."""


class ModelRecord(Recorded):
    """Which model was defended."""

    id: str
    source: str | None = None
    """Where it was taken from; null: a folder of the machine that ran."""
    revision: str | None = None
    """Commit of a repository, version of a package."""
    weights_sha: str | None = None


class ThreatRecord(Recorded):
    """What a threat model says of itself."""

    unit: Unit
    role: Role
    reaches_less_than: str | None = None
    """A threat model that can do all that this one can, at equal budgets; null: none."""

    @property
    def scored(self) -> bool:
        """Its recoveries enter the score."""
        return self.role != "diagnostic"


class TaskRecord(Recorded):
    """What the suite froze for a task."""

    site: str
    threat_models: list[str]
    """Those that can be tried on the task."""
    budgets: dict[str, list[float]]
    """By threat model, in its unit, also those beyond the ceiling; none where the suite gives it none."""
    ceilings: dict[str, float | None] = {}
    """By threat model: the largest ranked budget (the steering ceiling); null: none."""
    tau: float | None = None
    """Largest relative drift that counts as harmless."""
    steered: dict[str, dict[str, float]] = {}
    """By threat model and example: the smallest ranked budget at which the undefended model is steered to the example's
    wrong target; an example that is not listed: at none; a threat model that is left out: not known."""
    examples_hash: str | None = None
    """Hash of the test examples."""

    def applies(self, threat_model: str) -> bool:
        """Whether a threat model can be tried on the task and the suite gives it budgets there."""
        return threat_model in self.threat_models and bool(self.budgets.get(threat_model))


class DefenseRecord(Recorded):
    """The identity of a defense."""

    spec_sha: str
    family: str | None = None
    """What it is an edition of: evaluations of one defense that differ in the SAEs that it reads have one; null: the
    run does not say."""
    saes: dict[str, str] = {}
    """Site -> source of the SAE that it may read there."""


class Manifest(Recorded):
    """``run.json``."""

    schema_version: Literal[2]
    run_id: str
    status: Literal["running", "complete", "interrupted", "partial"]
    started: str | None = None
    finished: str | None = None
    protocol: str
    ranked: bool
    """Scores of the protocol compare with those of other runs."""
    limit: float | None = None
    suite: SuiteRecord
    model: ModelRecord
    seed: int
    dtype: str
    device: str
    versions: dict[str, JsonValue] = {}
    git: dict[str, JsonValue] | None = None
    threats: dict[str, ThreatRecord]
    """Every threat model of the suite and of the plan."""
    tasks: dict[str, TaskRecord]
    defenses: dict[str, DefenseRecord]
