"""What a suite asks of a defended model beside its tasks: lm-eval's tasks, by name or as local YAML files.

utility:
- {task: ../organism/lm_eval/knowledge.yaml, limit: 100, keep: 0.99}
- {task: mmlu_anatomy, revision: c30699e8356da336a370243923dbaf21066bb9fe, metric: acc}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmark.documents import read
from benchmark.errors import UsageError
from benchmark.values import by_content, sha

YAML = (".yaml", ".yml")
_DATA = ("json", "csv", "parquet", "text")
"""Builders of ``datasets`` that read local files."""


class UtilityTask(BaseModel):
    """One entry of a suite's ``utility``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: Annotated[str, Field(min_length=1, pattern=r"\S")]
    """lm-eval's name of a task or group, or a YAML file of one, relative to the suite's."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")] | None = None
    """Commit of the data set on the hub; None: whatever the hub has on the day."""
    limit: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """The first so many documents of each of its tasks; None: all."""
    metric: str | None = None
    """What it is judged by; None: the first metric that can be compared document by document."""
    keep: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the undefended model's accuracy that must be kept for a defense to be ranked; of a perplexity, its own
    over the defended one's. None: shown only."""

    @model_validator(mode="after")
    def _check(self) -> UtilityTask:
        if self.is_file and self.revision is not None:
            raise ValueError(f"{self.task} is a file: its data set's revision stands there, in dataset_kwargs")
        return self

    @property
    def is_file(self) -> bool:
        """It is a YAML file, and no name."""
        return self.task.endswith(YAML)

    @property
    def name(self) -> str:
        """How it is called in the results.

        Raises:
            UsageError: the file cannot be read, or names no task.
        """
        return str(local_config(Path(self.task))["task"]) if self.is_file else self.task

    def limited(self, limit: int | None) -> UtilityTask:
        """With at most ``limit`` documents."""
        return self.model_copy(update={"limit": min((n for n in (self.limit, limit) if n is not None), default=None)})

    @property
    def content(self) -> dict[str, Any]:
        """Everything that decides its numbers, wherever its files lie."""
        said = self.model_dump(mode="json")
        return {**said, "task": _portable(Path(self.task))} if self.is_file else said


def local_config(path: Path) -> dict[str, Any]:
    """lm-eval's configuration in a local YAML file, whose data files are relative to it.

    Raises:
        UsageError: no such file, not plain YAML, no configuration of one task, or a data file that is missing.
    """
    config = read(path).value
    if not isinstance(config, dict) or not isinstance(config.get("task"), str):
        raise UsageError(f"{path}: lm-eval's configuration of one task is needed; give `task: NAME` and what it reads")
    if "include" in config:
        raise UsageError(f"{path}: `include` is not read; write out what it would include")
    given = config.get("dataset_kwargs")
    if config.get("dataset_path") in _DATA and (not isinstance(given, dict) or "data_files" not in given):
        raise UsageError(f"{path}: local data need their files; give `dataset_kwargs: {{data_files: {{SPLIT: FILE}}}}`")
    if isinstance(given, dict) and "data_files" in given:
        files = given["data_files"]
        if not isinstance(files, dict):
            raise UsageError(f"{path}: data_files is to say which split each file is; write {{SPLIT: FILE}}")
        given["data_files"] = {str(split): _file(path, file) for split, file in files.items()}
    return config


def _file(path: Path, named: Any) -> str:
    found = path.parent / str(named)
    if not found.is_file():
        raise UsageError(f"{path}: there is no data file {str(found)!r}; give one that exists, relative to the YAML")
    return str(found.resolve())


def _portable(path: Path) -> str:
    """Hash of a local task: its configuration and its data."""
    config = local_config(path)
    given = config.get("dataset_kwargs") or {}
    files = {split: by_content(file) for split, file in (given.get("data_files") or {}).items()}
    return sha({**config, "dataset_kwargs": {**given, "data_files": files}})
