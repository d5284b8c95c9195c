"""Suites: what is evaluated on which model, with the constants that make results comparable.

A suite is a YAML file, whole or on top of another one that it ``extends``. Local paths in it are relative to the file,
so a hub id can always be replaced by a folder with the same layout. ``frozen`` holds measured constants;
``bench plan --freeze`` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.errors import UsageError
from benchmark.registry import SUITES
from benchmark.sites import Site
from benchmark.spec import portable, sha

Budget = Annotated[float, Field(gt=0)]


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
    ceiling: float
    """Largest eps at which the undefended model is steered to a wrong target on at most 10 % of ``dev``."""
    suffix_ceiling: float | None = None
    """The same for suffixes; None: no suffix can reach the task's readout."""
    token_ceiling: int | None = None
    """The same for typed suffixes, a number of tokens; None: the suite has no budgets for them."""
    tau: float
    """95th percentile of the drift that swapping one benign prompt for another of the same length causes."""


class TaskSettings(_Strict):
    """How a task is run in a suite."""

    site: str
    """Where a default defense acts and, where a defense has no site of its own, the attacker writes."""
    examples: int | None = Field(None, ge=1)
    """Test examples that the suite takes, spread evenly over the task's; None: all."""
    settings: dict[str, Any] = {}
    """Settings of the task itself, for example its judge."""
    perturbed: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    """Number of prompt positions that may be perturbed, ending at the readout; BOS never is."""
    suffix_tokens: int = Field(4, ge=1)
    budgets: tuple[Budget, ...]
    """Shares of the residual norm, ascending."""
    suffix_budgets: tuple[Budget, ...] = ()
    """Shares of the embedding norm times the root of ``suffix_tokens``, ascending; none where no suffix can reach."""
    token_budgets: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of tokens that a typed suffix may have, ascending; none: no such attacks."""
    frozen: Frozen | None = None

    @model_validator(mode="after")
    def _check(self) -> TaskSettings:
        Site.parse(self.site)
        for grid in (self.budgets, self.suffix_budgets, self.token_budgets):
            if list(grid) != sorted(set(grid)):
                raise ValueError("budgets must be ascending, without repetition")
        if not self.budgets:
            raise ValueError("budgets must be ascending, at least one")
        return self


class Suite(_Strict):
    """A suite file."""

    name: str
    version: int = 1
    description: str = ""
    model: ModelSource
    saes: dict[str, str] = {}
    tasks: dict[str, TaskSettings]
    attacks: tuple[dict[str, Any], ...]
    """Each ``{attack: NAME, ...settings}``; their controls are added by the plan."""
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
        kept = self.model_dump(mode="json", exclude={"description": True, "saes": True, "model": {"source"}})
        return sha(portable(kept))


def load_suite(reference: str) -> Suite:
    """A registered suite or a YAML file.

    Raises:
        UsageError: it does not exist or does not obey the schema.
    """
    path = suite_path(reference)
    try:
        return Suite.model_validate(_content(path))
    except (yaml.YAMLError, ValidationError) as error:
        raise UsageError(f"{path} is not a valid suite: {error}") from error


def _content(path: Path) -> Any:
    """What a file says, on top of the suite that it ``extends``; local folders are relative to their own file."""
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict):
        return content
    if isinstance(content.get("saes"), dict):
        content["saes"] = {hook: _anchor(source, path.parent) for hook, source in content["saes"].items()}
    if isinstance(content.get("model"), dict) and "source" in content["model"]:
        content["model"]["source"] = _anchor(content["model"]["source"], path.parent)
    base = content.pop("extends", None)
    return content if base is None else {**_content(suite_path(str(path.parent / base))), **content}


def suite_path(reference: str) -> Path:
    """The file of a suite, by registered name or path.

    Raises:
        UsageError: there is none.
    """
    path = Path(reference) if reference.endswith((".yaml", ".yml")) else Path(SUITES.get(reference))
    if not path.is_file():
        raise UsageError(f"there is no suite file {str(path)!r}")
    return path


def _anchor(source: Any, folder: Path) -> Any:
    local = (folder / str(source)).resolve()
    return str(local) if local.exists() else source
