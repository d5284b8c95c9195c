"""Suites: what is evaluated on which model, with the constants that make results comparable.

A suite is a YAML file, whole or on top of another one, by name or by path, that it ``extends``. Local paths in it are
relative to the file, so a source of the hub can always be replaced by a folder with the same layout. ``frozen`` holds
measured constants; ``bench plan --freeze`` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from benchmark.documents import Document, faults, read, shown
from benchmark.errors import UsageError
from benchmark.files import is_file
from benchmark.names import checked_name
from benchmark.registry import SUITES, THREATS
from benchmark.sealed import refuse_while_learning
from benchmark.sites import Site
from benchmark.suite_utility import YAML, UtilityTask
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
    floor: Annotated[float, Field(ge=0)] | None = None
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

    def size(self, task: str, limit: int | None) -> int | None:
        """How many test examples of a task are taken, the user's own ``limit`` included; None: all."""
        return min((n for n in (self.tasks[task].examples, limit) if n is not None), default=None)

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


def load_suite(named: str, given: Mapping[str, Any] | None = None) -> Suite:
    """A registered suite or a YAML file.

    Args:
        given: what takes the place of the file's own entries; of ``other_tasks``, entry by entry.

    Raises:
        UsageError: it does not exist or does not obey the schema.
    """
    refuse_while_learning(f"the suite {named!r}")
    path = suite_path(named)
    content, origins = _content(path, ())
    content |= _given(content, given or {})
    try:
        text = json.dumps(content)
        return Suite.model_validate_json(text, strict=True)  # JSON has no types that could be taken for another
    except ValidationError as error:
        raise UsageError(f"{path} is not a valid suite: {_faults(error, path, origins)}") from error
    except UsageError as error:
        raise UsageError(f"{path} is not a valid suite: {error}") from error


def _given(content: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Entries for a suite; one that says nothing of other tasks is told nothing of them."""
    others = content.get("other_tasks")
    if isinstance(others, dict):
        return {**given, "other_tasks": {**others, **given.get("other_tasks", {})}}
    return {name: value for name, value in given.items() if name != "other_tasks"}


class _Origin(NamedTuple):
    """The file that a key of a suite stands in."""

    path: Path
    document: Document


def _faults(error: ValidationError, path: Path, origins: Mapping[str, _Origin]) -> str:
    """What is wrong, by the files that say it."""
    said: dict[str, None] = {}
    for origin in dict.fromkeys(map(id, origins.values())):
        one = next(o for o in origins.values() if id(o) == origin)
        mine = [e for e in error.errors(include_url=False) if e["loc"] and origins.get(str(e["loc"][0])) is one]
        if mine:
            text = faults(mine, one.document)
            said[text if one.path == path else f"in {one.path}, {text}"] = None
    rest = [e for e in error.errors(include_url=False) if not e["loc"] or str(e["loc"][0]) not in origins]
    if rest:
        said[faults(rest)] = None
    return "; ".join(said) + f"; a suite has: {', '.join(Suite.model_fields)}"


def _content(path: Path, below: Sequence[Path]) -> tuple[dict[str, Any], dict[str, _Origin]]:
    """What a file says, on top of the suite that it ``extends``, and where each key stands; local files and folders are
    relative to their own. ``below``: the files that extend this one."""
    if path.resolve() in below:
        chain = " extends ".join(str(p) for p in (*below, path.resolve()))
        raise UsageError(f"suites extend each other in a circle: {chain}; take one `extends` out")
    document = read(path)
    content = document.value
    if not isinstance(content, dict):
        raise UsageError(
            f"{path} is not a valid suite: it is {shown(content)}, not a mapping; a suite has: "
            f"{', '.join(Suite.model_fields)}"
        )
    if isinstance(content.get("saes"), dict):
        content["saes"] = {hook: _anchor_each(source, path.parent) for hook, source in content["saes"].items()}
    if "defense" in content:
        content["defense"] = _anchor(content["defense"], path.parent)
    _anchor_sources(content, path.parent)
    _anchor_utility(content.get("utility"), path.parent)
    origin = _Origin(path, document)
    if "extends" not in content:
        return content, dict.fromkeys(content, origin)
    base, origins = _content(_extended(path, document), (*below, path.resolve()))
    del content["extends"]
    return {**base, **content}, {**origins, **dict.fromkeys(content, origin)}


def _extended(path: Path, document: Document) -> Path:
    """The file of the suite that another one extends."""
    base = document.value["extends"]
    where = f"{path}, line {document.line(('extends',))}: extends"
    if not isinstance(base, str):
        raise UsageError(f"{where}: {shown(base)} is no name; write the name or the file of one suite")
    try:
        return suite_path(str(path.parent / base) if base.endswith(YAML) else base)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def suite_path(named: str) -> Path:
    """The file of a suite, by registered name or path.

    Raises:
        UsageError: there is none.
    """
    path = Path(named) if named.endswith(YAML) else Path(SUITES.get(named))
    if not is_file(path):
        raise UsageError(
            f"there is no suite file {str(path)!r}; give the path of one, or one of {', '.join(SUITES.names())}"
        )
    return path


def _anchor_sources(value: Any, folder: Path) -> None:
    """Wherever a ``source`` (of a model, of data), a task's ``model`` or the file of a ``kind`` is a local path, it is
    the file's."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _anchor_sources(item, folder)
    for name in ("source", "model"):
        if isinstance(value, dict) and name in value:
            value[name] = _anchor(value[name], folder)
    if isinstance(value, dict) and isinstance(value.get("kind"), str) and ".py:" in value["kind"]:
        file, _, name = value["kind"].rpartition(":")
        value["kind"] = f"{_anchor(file, folder)}:{name}"


def _anchor_each(sources: Any, folder: Path) -> Any:
    """One source, or each of several."""
    return [_anchor(one, folder) for one in sources] if isinstance(sources, list) else _anchor(sources, folder)


def _anchor_utility(entries: Any, folder: Path) -> None:
    """A utility task's YAML file is relative to the suite's, whether it is there or not."""
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("task"), str) and entry["task"].endswith(YAML):
            entry["task"] = str((folder / entry["task"]).resolve())


def _anchor(source: Any, folder: Path) -> Any:
    if not isinstance(source, str) or not source.strip():
        return source
    try:
        local = (folder / source).resolve()
        return str(local) if local.exists() else source
    except (OSError, ValueError):  # no file can be called so
        return source
