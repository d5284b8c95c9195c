"""The request: what a user asks for, in one object, from the command line, a YAML file or Python.

Its fields are the only list of options: the flags of the command line and their help are made of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from benchmark.contracts.defense import Defense
from benchmark.documents import read
from benchmark.errors import UsageError
from benchmark.plain_values import shown
from benchmark.registry import suggestion
from benchmark.spec import by_field
from benchmark.suite import Hook, Name, Source, Sources


class Flag(NamedTuple):
    """How a field is given on the command line."""

    names: tuple[str, ...]
    """Its flags; of a switch, the one that turns it on, and off after a slash."""


def _several(value: Any) -> Any:
    """One thing where several may be given."""
    return (value,) if isinstance(value, str | Defense) else value


def _listed(value: Any) -> Any:
    """Something, where nothing at all is not what leaving it out means."""
    if isinstance(value, tuple) and not value:
        raise ValueError("it is empty: nothing would be run; leave it out for the suite's own, or name one")
    return value


def _rows(value: Any) -> Any:
    return None if value == "auto" else value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", value):
        raise ValueError("write auto, cpu, cuda or cuda:<index>")
    return value


def _folder(value: Any) -> Any:
    """A path that a file system can have; the empty one would be the folder that one happens to be in."""
    if not str(value).strip() or not str(value).isprintable():
        raise ValueError("write a folder without control characters")
    return value


def _executor(value: str) -> str:
    if value not in ("local", "ray"):
        raise ValueError("write local or ray")
    return value


def _settings(value: Any) -> Any:
    if isinstance(value, Mapping) and not all(isinstance(name, str) and name for name in value):
        raise ValueError("settings have names that are text; write {setting: value}")
    return by_field(value, "options") if isinstance(value, Mapping) else value


def _path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_several), AfterValidator(_listed)]
Defenses = Annotated[tuple[str | Defense, ...], BeforeValidator(_several), AfterValidator(_listed)]
Place = Annotated[Source, BeforeValidator(_path)]
Whole = Annotated[int, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]


FRAME = "own"
"""Registered suite without a model, for a user's own."""


class Request(BaseModel):
    """What is to be evaluated, on what, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)

    defense: Annotated[Defenses | None, Flag(("--defense", "-d"))] = None
    """Defense: registered name, file.py:Class, or a YAML/JSON spec. Repeatable; default: the suite's."""
    suite: Annotated[str, Flag(("--suite", "-s"))] = "embedded"
    """Registered suite or YAML file; beside --model the frame for models of your own, unless one is given."""
    model: Annotated[Place | None, Flag(("--model", "-m"))] = None
    """Model in the place of the suite's: a folder, FILE.gguf, package:NAME==VERSION/FILE or hub:OWNER/NAME@REV."""
    model_name: Annotated[Name | None, Flag(("--model-name",))] = None
    """What the SAEs of --model call it, if that is not the last part of its source."""
    saes: Annotated[Mapping[Hook, Sources], Flag(("--sae",))] = {}
    """SAE in the place of the suite's, HOOK=SOURCE: a folder or file, hub:OWNER/NAME@REV/PATH or release/sae_id.
    Repeatable; of several at one hook the first is the default."""
    tasks: Annotated[Names | None, Flag(("--task", "-t"))] = None
    """Task of the suite, or file.py:Class; beside --data a kind of task (`bench list tasks`). Repeatable; default: all
    of the suite."""
    data: Annotated[Place | None, Flag(("--data",))] = None
    """Data in the place of the suite's, or your own for a kind of task: a file (.csv, .json, .jsonl, .parquet) or
    hub:OWNER/NAME@REV:CONFIG:SPLIT."""
    retain_data: Annotated[Place | None, Flag(("--retain-data",))] = None
    """Data that a selective defense leaves alone, in the place of the suite's or beside --data."""
    site: Annotated[Hook | None, Flag(("--site",))] = None
    """Hook where defenses act and attackers write that name none, in the place of the tasks'; of --data: the first
    --sae's, unless one is given."""
    task_settings: Annotated[Mapping[str, Any], BeforeValidator(_settings), Flag(("-T",))] = {}
    """Setting of the tasks, or of the kind of task beside --data, key=value; dots lead into it
    (data.columns.question=q). Repeatable."""
    attacks: Annotated[Names | None, Flag(("--attack", "-a"))] = None
    """Attack: registered name or file.py:Class. Repeatable; default: the suite's."""
    attack_settings: Annotated[Mapping[str, Any], BeforeValidator(_settings), Flag(("-A",))] = {}
    """Setting of every given attack, key=value; dots lead into it (search.steps=80). Repeatable."""
    limit: Annotated[Whole | None, Field(ge=1, lt=2**31), Flag(("--limit",))] = None
    """Test examples a task, for trying out; never ranked."""
    output_dir: Annotated[Annotated[Path, BeforeValidator(_folder)] | None, Flag(("--output-dir", "-o"))] = None
    """Run directory; repeat to resume. Default: one under runs/ that the plan determines."""
    batch_size: Annotated[Whole | None, Field(ge=1, lt=2**31), BeforeValidator(_rows), Flag(("--batch-size",))] = None
    """Rows of a forward pass, or auto. Never changes a result."""
    offline: Annotated[Switch, Flag(("--offline/--online",))] = False
    """Ask nothing of the network; what is missing on this machine is listed, and nothing is begun."""
    device: Annotated[str, AfterValidator(_device), Flag(("--device",))] = "auto"
    """auto, cpu, cuda or cuda:<index>."""
    dtype: Annotated[str, Flag(("--dtype",))] = "float32"
    """float32, bfloat16, float16 or float64."""
    seed: Annotated[Whole, Field(ge=0, lt=2**63), Flag(("--seed",))] = 0
    """One seed for everything, of 63 bits; recorded."""
    controls: Annotated[Switch, Flag(("--controls/--no-controls",))] = True
    """Also classify the undefended model and each defense's own control."""
    attribution: Annotated[Switch, Flag(("--attribution/--no-attribution",))] = False
    """Also replay the parts of every recovery's perturbation."""
    utility: Annotated[Switch, Flag(("--utility/--no-utility",))] = True
    """Also ask each evaluated defense the suite's utility tasks (lm-eval), where it names any."""
    options: Annotated[Mapping[str, Any], BeforeValidator(_settings), Flag(("-D",))] = {}
    """Setting of every given defense, key=value. Repeatable."""
    executor: Annotated[str, AfterValidator(_executor), Flag(("--executor",))] = "local"
    """local: this machine, a worker a GPU; ray: a Ray cluster. Never changes a result."""
    workers: Annotated[Whole | None, Field(ge=1, lt=2**16), Flag(("--workers",))] = None
    """Processes that share the work, each with the model. Default: one a GPU, and one where there is none."""
    address: Annotated[str | None, Flag(("--address",))] = None
    """Of the Ray cluster, auto or HOST:PORT; default: one on this machine, for this run."""
    protocol: Annotated[str, Flag(("--protocol",))] = "strict"
    """strict, or paper: the published study's semantics, never ranked."""

    @model_validator(mode="before")
    @classmethod
    def _framed(cls, values: Any) -> Any:
        """A model of the user's own has no task of a suite to go by."""
        own = isinstance(values, Mapping) and values.get("model") is not None and values.get("suite") is None
        return {**values, "suite": FRAME} if own else values

    @model_validator(mode="after")
    def _aimed(self) -> Request:
        """Settings are those of attacks that are named: the suite's own stay as they are."""
        if self.attack_settings and self.attacks is None:
            raise ValueError("settings of an attack (-A) go with its name: give --attack too")
        return self

    @classmethod
    def make(cls, values: Mapping[str, Any], where: str = "request") -> Request:
        """A request from plain values.

        Raises:
            UsageError: an option that does not exist, or a value that does not fit, all of them named.
        """
        unknown = [str(name) for name in values if name not in cls.model_fields]
        if unknown:
            known = list(cls.model_fields)
            named = "; ".join(f"unknown option {n!r}.{suggestion(n, known)}" for n in unknown)
            raise UsageError(f"{where}: {named} Options: {', '.join(known)}")
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            lines = [_told(e) for e in error.errors(include_url=False)]
            raise UsageError(f"{where}: " + "; ".join(dict.fromkeys(lines))) from error

    @classmethod
    def load(cls, path: Path, given: Mapping[str, Any]) -> Request:
        """A request from a YAML file, with what is ``given`` beside it on top.

        Raises:
            UsageError: no such file, not YAML, or options that do not fit.
        """
        content = _config(path)
        if not isinstance(content, dict):
            raise UsageError(f"--config {path}: a mapping of options is needed: {', '.join(cls.model_fields)}")
        merged = {**content, **given}
        for name in ("options", "task_settings", "attack_settings"):
            if isinstance(content.get(name), Mapping) and name in given:
                merged[name] = over(by_field(content[name], f"--config {path}: {name}"), given[name])
        return cls.make(merged, f"--config {path}")


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings on top of others, mapping by mapping."""
    found = dict(below)
    for name, value in above.items():
        under = below.get(name)
        found[name] = over(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return found


def _config(path: Path) -> Any:
    try:
        return read(path).value
    except UsageError as error:
        raise UsageError(f"--config {error}") from error


def _told(error: Any) -> str:
    """One error of a field by its flag, with what was given; or of fields that do not go together."""
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    return f"{_flag(str(error['loc'][0]))}: {error['msg'].removeprefix('Value error, ')} (got {shown(error['input'])})"


def flag_of(field: str) -> Flag:
    """How a field of the request is given on the command line."""
    return next(m for m in Request.model_fields[field].metadata if isinstance(m, Flag))


def _flag(field: str) -> str:
    return flag_of(field).names[0].partition("/")[0] if field in Request.model_fields else field


Given = str | Defense | Sequence[str | Defense]
"""Registered names, ``file.py:Class``, spec files or objects."""

Status = Literal["complete", "partial"]
"""partial: some cells failed and will be tried again."""
