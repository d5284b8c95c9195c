"""Suites: what is evaluated on which model, with the constants that make results comparable.

``frozen`` holds measured constants; ``bench plan --freeze`` writes them. How a suite is read: ``suite_file.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from benchmark.names import checked_name
from benchmark.plain_values import shown
from benchmark.registry import THREATS
from benchmark.sites import Site
from benchmark.suite_utility import UtilityTask
from benchmark.values import by_content, exact, sha

Budget = Annotated[float, Field(gt=0)]
AUTO = "auto"
"""Written for the budgets that a run proposes by itself."""


def _name(value: str) -> str:
    return checked_name(value, "name")


def _site(value: str) -> str:
    if str(Site.parse(value)) != value:
        raise ValueError(f"{value!r} has space around it; leave it out")
    return value


def _proposed(grid: Any) -> Any:
    """``auto`` as no budgets yet."""
    if grid in ([], ()):
        raise ValueError(f"budgets must be ascending, without repetition, at least one; or write {AUTO}")
    return () if grid == AUTO else _tuple(grid)


def _budgets(grid: tuple[float, ...]) -> tuple[float, ...]:
    if list(grid) != sorted(set(grid)):
        raise ValueError("budgets must be ascending, without repetition, at least one")
    return grid


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else _tuple(value)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _distinct(sources: tuple[str, ...]) -> tuple[str, ...]:
    if not sources or len(set(sources)) < len(sources):
        raise ValueError("give one SAE, or several that are all different")
    return sources


Name = Annotated[str, AfterValidator(_name)]
Hook = Annotated[str, AfterValidator(_site)]
Source = Annotated[str, Field(min_length=1, pattern=r"\S")]
Sources = Annotated[tuple[Source, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
Grid = Annotated[tuple[Budget, ...], BeforeValidator(_proposed), AfterValidator(_budgets)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSource(_Strict):
    """Where the model is."""

    source: Source
    """A folder, FILE.gguf, ``package:NAME==VERSION/FILE.gguf``, or ``hub:OWNER/NAME@REVISION``."""
    name: Name
    """Name that the metadata of its SAEs gives it."""
    bos: bool | None = None
    """Whether every prompt begins with BOS; None: as the tokenizer does by itself."""


class Frozen(_Strict):
    """Measured once for the suite's model and without any defense, so that none can move them."""

    weights_sha: str
    """Hash of the weights, configuration and tokenizer that the constants were measured on."""
    residual_norms: dict[str, float]
    """Hook name of each layer's input (and the last one's output) -> median residual norm at the readout on ``fit``."""
    embedding_norm: float
    ceilings: dict[str, float | None]
    """Threat model -> largest budget at which the undefended model is steered to a wrong target on at most 10 % of
    ``dev``; None, or left out: none is known."""
    tau: float | None
    """95th percentile of the drift that swapping one benign prompt for another of the same length causes in the latents
    of the SAE at the task's site; None: there is no SAE, or no two prompts of one length."""
    floor: Annotated[float, Field(gt=0)] | None = None
    """Total probability of what the verdict chooses from, below which a reading is degenerate: a share of the
    undefended median on ``fit``; None: the verdict chooses from nothing."""
    steered: dict[str, dict[str, float]] = {}
    """Threat model -> ``test`` example -> smallest ranked budget at which the undefended model is steered to the
    example's wrong target: what a recovery has to beat to be selective. An example that is not listed is steered at no
    budget; of a threat model that is left out nothing is known."""


class TaskSettings(_Strict):
    """How a task is run in a suite."""

    kind: str | None = None
    """Registered kind of task, or ``file.py:Class``; None: the task's own name is one."""
    site: Hook
    """Where a default defense acts and, where a defense has no site of its own, the attacker writes."""
    examples: Count | None = None
    """Test examples that the suite takes, spread evenly over the task's; None: all."""
    settings: dict[str, Any] = {}
    """Settings of the kind, for example its data."""
    perturbed: Count | Literal["all"] = 1
    """Number of prompt positions that may be perturbed, ending at the readout; a text's first position never is."""
    suffix_tokens: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Vectors of a soft suffix."""
    budgets: dict[str, Grid]
    """Threat model -> its budgets, ascending, in its unit, or ``auto``: a grid up to the steering ceiling, and none
    before that is measured; a threat model that is left out is not tried."""
    frozen: Frozen | None = None

    @model_validator(mode="after")
    def _check(self) -> TaskSettings:
        unknown = [name for name in self.budgets if name not in THREATS.names()]
        if unknown:
            raise ValueError(f"budgets for {', '.join(unknown)}; threat models are: {', '.join(THREATS.names())}")
        if not self.budgets:
            raise ValueError("budgets must name at least one threat model")
        return self

    @property
    def unsettled(self) -> list[str]:
        """The threat models whose budgets are ``auto``."""
        return [name for name, grid in self.budgets.items() if not grid]


class Controls(_Strict):
    """What is classified beside the defenses of a run, and how."""

    undefended: str | None = None
    """Name of the defense that edits nothing: it must suppress nothing, or the model does not repeat itself."""
    attack: str | None = None
    """Name of the attack that control defenses get: one that writes nothing. None: they are not classified."""


class Suite(_Strict):
    """A suite file."""

    name: Name
    version: Annotated[int, Field(ge=0, lt=2**31)] = 1
    description: str = ""
    model: ModelSource
    saes: dict[Hook, Sources] = {}
    """Hook name -> the SAE there, or several: the first is what a defense gets that names none."""
    defense: str | None = None
    """What is evaluated if no defense is named: a registered one, or a spec file."""
    tasks: dict[Name, TaskSettings]
    other_tasks: TaskSettings | None = None
    """How a task is run that the suite does not list (``--task file.py:Class``); None: it is not."""
    attacks: tuple[dict[str, Any], ...]
    """Each ``{attack: NAME, ...settings}``; their controls are added by the plan."""
    controls: Controls = Controls()
    utility: tuple[UtilityTask, ...] = ()
    """What lm-eval asks of each fitted defense, beside the tasks' own retain sets."""
    limit: Count | None = None
    """Test examples a task; a suite with a limit is for trying things, not for ranking."""
    sample: Count | None = None
    """Examples of every other split, and of every retain set; for trying things, as ``limit``. None: all."""

    @model_validator(mode="after")
    def _check(self) -> Suite:
        if not self.tasks and self.other_tasks is None:
            raise ValueError(
                "tasks is empty: nothing would be run; list a task, or say by `other_tasks` how any is run"
            )
        if not self.attacks:
            raise ValueError("attacks is empty: nothing would be run; list one as {attack: NAME}")
        for number, entry in enumerate(self.attacks):
            if not isinstance(entry.get("attack"), str):
                raise ValueError(
                    f"attacks.{number} is {shown(entry)}; write {{attack: NAME}} with its settings beside it"
                )
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
        content["utility"] = [entry.content for entry in self.utility]
        return sha(exact(content, "suite"))


def _portable_kind(kind: str | None) -> str | None:
    """A kind of task; a class of a file goes by the file's text, wherever that lies."""
    file, separator, name = (kind or "").rpartition(".py:")
    return f"{by_content(f'{file}.py')}:{name}" if separator else kind
