"""Suites: what is evaluated on which model, with the constants that make results comparable.

A suite is a YAML file, whole or on top of another one, by name or by path, that it ``extends``. Local paths in it are
relative to the file, so a hub id can always be replaced by a folder with the same layout. ``frozen`` holds measured
constants; ``bench plan --freeze`` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.errors import UsageError
from benchmark.registry import SUITES, THREATS
from benchmark.sealed import refuse_while_learning
from benchmark.sites import Site
from benchmark.spec import fingerprint, portable, sha

Budget = Annotated[float, Field(gt=0)]
SUFFIXES = (".yaml", ".yml")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSource(_Strict):
    """Where the model is."""

    source: str
    """Local folder or hub id."""
    name: str
    """Name that the metadata of its SAEs gives it."""
    revision: str | None = None


class Frozen(_Strict):
    """Measured once for the suite's model, on ``fit`` and ``dev``; the same for every defense."""

    weights_sha: str
    """Hash of the weights that the constants were measured on."""
    residual_norms: dict[str, float]
    """Hook name of each layer's input (and the last one's output) -> median residual norm at the readout on ``fit``."""
    embedding_norm: float
    ceilings: dict[str, float | None]
    """Threat model -> largest budget at which the undefended model is steered to a wrong target on at most 10 % of
    ``dev``; None, or left out: none is known."""
    tau: float
    """95th percentile of the drift that swapping one benign prompt for another of the same length causes."""


class TaskSettings(_Strict):
    """How a task is run in a suite."""

    kind: str | None = None
    """Registered kind of task, or ``file.py:Class``; None: the task's own name is one."""
    site: str
    """Where a default defense acts and, where a defense has no site of its own, the attacker writes."""
    examples: int | None = Field(None, ge=1)
    """Test examples that the suite takes, spread evenly over the task's; None: all."""
    settings: dict[str, Any] = {}
    """Settings of the kind, for example its data."""
    perturbed: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    """Number of prompt positions that may be perturbed, ending at the readout; BOS never is."""
    suffix_tokens: int = Field(4, ge=1)
    """Vectors of a soft suffix."""
    budgets: dict[str, tuple[Budget, ...]]
    """Threat model -> its budgets, ascending, in its unit; a threat model that is left out is not tried."""
    frozen: Frozen | None = None

    @model_validator(mode="after")
    def _check(self) -> TaskSettings:
        Site.parse(self.site)
        unknown = [name for name in self.budgets if name not in THREATS.names()]
        if unknown:
            raise ValueError(f"budgets for {', '.join(unknown)}; threat models are: {', '.join(THREATS.names())}")
        for name, grid in self.budgets.items():
            if not grid or list(grid) != sorted(set(grid)):
                raise ValueError(f"budgets of {name} must be ascending, without repetition, at least one")
        if not self.budgets:
            raise ValueError("budgets must name at least one threat model")
        return self


class Controls(_Strict):
    """What is classified beside the defenses of a run, and how."""

    undefended: str | None = None
    """Name of the defense that edits nothing: it must suppress nothing, or the model does not repeat itself."""
    attack: str | None = None
    """Name of the attack that control defenses get: one that writes nothing. None: they are not classified."""


class Suite(_Strict):
    """A suite file."""

    name: str
    version: int = 1
    description: str = ""
    model: ModelSource
    saes: dict[str, str] = {}
    defense: str | None = None
    """What is evaluated if no defense is named."""
    tasks: dict[str, TaskSettings]
    other_tasks: TaskSettings | None = None
    """How a task is run that the suite does not list (``--task file.py:Class``); None: it is not."""
    attacks: tuple[dict[str, Any], ...]
    """Each ``{attack: NAME, ...settings}``; their controls are added by the plan."""
    controls: Controls = Controls()
    limit: int | None = Field(None, ge=1)
    """Test examples a task; a suite with a limit is for trying things, not for ranking."""
    sample: int | None = Field(None, ge=1)
    """Examples of every other split, and of every retain set; for trying things, as ``limit``. None: all."""

    def size(self, task: str, limit: int | None) -> int | None:
        """How many test examples of a task are taken, the user's own ``limit`` included; None: all."""
        return min((n for n in (self.tasks[task].examples, limit) if n is not None), default=None)

    @model_validator(mode="after")
    def _check(self) -> Suite:
        if self.sample is not None and self.limit is None:
            raise ValueError("a suite with a `sample` needs a `limit`: it is for trying things, not for ranking")
        return self

    @property
    def hash(self) -> str:
        """Hash of what changes results; description and local paths do not."""
        left_out = {"description": True, "saes": True, "model": {"source"}, "defense": True, "other_tasks": True}
        content = self.model_dump(mode="json", exclude=left_out)
        for settings in content["tasks"].values():
            settings["kind"] = _portable_kind(settings["kind"])
        return sha(portable(content))


def _portable_kind(kind: str | None) -> str | None:
    """A kind of task; a class of a file goes by the file's text, wherever that lies."""
    file, separator, name = (kind or "").rpartition(".py:")
    return f"{fingerprint(f'{file}.py')}:{name}" if separator else kind


def load_suite(named: str) -> Suite:
    """A registered suite or a YAML file.

    Raises:
        UsageError: it does not exist or does not obey the schema.
    """
    refuse_while_learning(f"the suite {named!r}")
    path = suite_path(named)
    try:
        return Suite.model_validate(_content(path))
    except (yaml.YAMLError, ValidationError) as error:
        raise UsageError(f"{path} is not a valid suite: {error}") from error


def _content(path: Path) -> Any:
    """What a file says, on top of the suite that it ``extends``; local files and folders are relative to their own."""
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict):
        return content
    if isinstance(content.get("saes"), dict):
        content["saes"] = {hook: _anchor(source, path.parent) for hook, source in content["saes"].items()}
    _anchor_sources(content, path.parent)
    base = content.pop("extends", None)
    if base is None:
        return content
    file = str(path.parent / base) if str(base).endswith(SUFFIXES) else str(base)
    return {**_content(suite_path(file)), **content}


def suite_path(named: str) -> Path:
    """The file of a suite, by registered name or path.

    Raises:
        UsageError: there is none.
    """
    path = Path(named) if named.endswith(SUFFIXES) else Path(SUITES.get(named))
    if not path.is_file():
        raise UsageError(f"there is no suite file {str(path)!r}")
    return path


def _anchor_sources(value: Any, folder: Path) -> None:
    """Wherever a ``source`` (of a model, of data) or the file of a ``kind`` is a local path, it is the file's."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _anchor_sources(item, folder)
    if isinstance(value, dict) and isinstance(value.get("source"), str):
        value["source"] = _anchor(value["source"], folder)
    if isinstance(value, dict) and ".py:" in str(value.get("kind")):
        file, _, name = value["kind"].rpartition(":")
        value["kind"] = f"{_anchor(file, folder)}:{name}"


def _anchor(source: Any, folder: Path) -> Any:
    local = (folder / str(source)).resolve()
    return str(local) if local.exists() else source
