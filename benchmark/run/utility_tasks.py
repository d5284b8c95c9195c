"""lm-eval's tasks as a suite names them: loaded before any work starts, and asked of a live model document by document.

What comes out is a number a document; texts stay inside.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.cache import cache_dir
from benchmark.contracts.paired import Unit
from benchmark.errors import UsageError
from benchmark.registry import suggestion
from benchmark.suite_utility import UtilityTask, local_config

DATA = "datasets"
"""Folder of the cache where local data are kept as ``datasets`` reads them."""
FEWSHOT_SEED = 1234
"""lm-eval's own default; set again before every pass, so that both models see the same examples."""
_UNITS: Mapping[str, Unit] = {"mean": "share", "perplexity": "nats", "weighted_perplexity": "nats"}
"""lm-eval's way to aggregate a metric -> how it is compared here; the others are no means over documents, or say what
these do (bits a byte)."""


class Documents(NamedTuple):
    """What one model makes of a task's documents."""

    values: list[float]
    weights: list[float] | None
    prompts: list[str]
    """Hashes of what was asked."""


@dataclass(frozen=True)
class LoadedTask:
    """An entry of a suite's ``utility`` with its data."""

    entry: UtilityTask
    name: str
    tasks: Mapping[str, Any]
    """lm-eval's tasks by name: one, or those of a group."""
    metric: str
    unit: Unit

    def of(self, model: Any) -> Documents:
        """What a model (``live_model``) makes of the documents.

        Raises:
            UsageError: a document's value is no number.
        """
        from lm_eval.evaluator import evaluate

        for task in self.tasks.values():
            task.set_fewshot_seed(FEWSHOT_SEED)
        given = {"tasks": dict(self.tasks), "groups": {}, "group_map": {}}
        found: Any = evaluate(model, given, limit=self.entry.limit, bootstrap_iters=0, log_samples=True)
        return self._documents([sample for name in self.tasks for sample in _first_filter(found["samples"][name])])

    def _documents(self, samples: Sequence[Mapping[str, Any]]) -> Documents:
        read = [_value(sample[self.metric]) for sample in samples]
        broken = [number for number, (value, _) in enumerate(read, 1) if not math.isfinite(value)]
        if broken:
            raise UsageError(
                f"{self.name}: {self.metric} is not finite on {len(broken)} of {len(read)} documents (the first is"
                f" document {broken[0]}); look for NaN in the model's or the defense's output, and make it finite"
            )
        if self.unit == "share" and not all(0 <= value <= 1 for value, _ in read):
            raise UsageError(f"{self.name}: {self.metric} is no share in [0, 1] of a document; give another `metric`")
        sign = -1.0 if self.unit == "nats" else 1.0
        weights = [weight for _, weight in read if weight is not None]
        prompts = [sample["prompt_hash"] for sample in samples]
        return Documents([sign * value for value, _ in read], weights or None, prompts)


def load_tasks(entries: Sequence[UtilityTask]) -> list[LoadedTask]:
    """lm-eval's tasks with their data.

    Raises:
        UsageError: a task that does not exist, data that cannot be had, or no metric that can be compared.
    """
    loaded = [_loaded(entry) for entry in entries]
    names = [one.name for one in loaded]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"utility has the task {', '.join(twice)} twice; leave one out")
    return loaded


def _loaded(entry: UtilityTask) -> LoadedTask:
    spec: Any = _local(Path(entry.task)) if entry.is_file else _registered(entry)
    try:
        found = _manager(entry).load(spec)
        empty = [name for name, task in found["tasks"].items() if not len(task.eval_docs)]
    except Exception as error:  # lm-eval and datasets raise whatever their loaders do
        raise UsageError(
            f"the utility task {entry.task} cannot be loaded: {_said(error)}; correct the task, or load its data set"
            " once while online"
        ) from error
    if empty or not found["tasks"]:
        raise UsageError(f"the utility task {entry.task} has no documents; give it data, or leave it out")
    metric, unit = _metric(entry, list(found["tasks"].values()))
    return LoadedTask(entry, entry.name, found["tasks"], metric, unit)


def _local(path: Path) -> dict[str, Any]:
    """What a YAML file says, with a place for what ``datasets`` makes of its files."""
    config = local_config(path)
    return {**config, "dataset_kwargs": {**(config.get("dataset_kwargs") or {}), "cache_dir": str(cache_dir(DATA))}}


def _registered(entry: UtilityTask) -> Any:
    """What lm-eval calls so, with its data set's revision."""
    known = _manager(entry).task_index
    if entry.task not in known:
        raise UsageError(
            f"lm-eval has no task {entry.task!r}.{suggestion(entry.task, list(known))} It has {len(known)}: see"
            " `lm-eval ls tasks`, or give a YAML file"
        )
    if entry.revision is None:
        return entry.task
    own = known[entry.task]
    if own.yaml_path is None or own.kind.name not in ("TASK", "PY_TASK"):
        raise UsageError(f"{entry.task} is several tasks of lm-eval; give a `revision` to each of them by its own name")
    from lm_eval.tasks._yaml_loader import load_yaml

    given = load_yaml(own.yaml_path, resolve_func=False, recursive=True).get("dataset_kwargs") or {}
    pinned = {"task": entry.task, "dataset_kwargs": {**given, "revision": entry.revision}}
    return {"group": "pinned", "task": [pinned]}  # only within a group are settings put on top of a registered task


_managers: dict[bool, Any] = {}


def _manager(entry: UtilityTask) -> Any:
    """lm-eval's index; of its own tasks only where one is named, for that takes seconds."""
    from lm_eval.tasks import TaskManager

    named = not entry.is_file
    if named not in _managers:
        _managers[named] = TaskManager(include_defaults=named)
    return _managers[named]


def _metric(entry: UtilityTask, tasks: Sequence[Any]) -> tuple[str, Unit]:
    """The metric that a task is judged by, and its unit."""
    comparable = [name for name in tasks[0].aggregation() if all(_unit(task, name) is not None for task in tasks)]
    wanted = entry.metric or next(iter(comparable), None)
    if wanted is None or wanted not in comparable:
        asked = f"has no metric {wanted!r} that is" if wanted else "has no metric that is"
        raise UsageError(
            f"the utility task {entry.task} {asked} a mean or a perplexity over documents; it has:"
            f" {', '.join(comparable) or 'none'}"
        )
    unit = _unit(tasks[0], wanted)
    assert unit is not None
    return wanted, unit


def _unit(task: Any, metric: str) -> Unit | None:
    """How a metric is compared; None: it is no mean over documents, or less of it is better."""
    how = getattr(task.aggregation().get(metric), "__name__", "")
    unit = _UNITS.get(how)
    return None if unit == "share" and not task.higher_is_better().get(metric) else unit


def _first_filter(samples: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Of several ways to read an answer the first, by document."""
    first = samples[0]["filter"]
    yield from sorted((s for s in samples if s["filter"] == first), key=lambda s: s["doc_id"])


def _value(measured: Any) -> tuple[float, float | None]:
    """A document's value and, where it has one, its weight."""
    if isinstance(measured, tuple):
        value, weight = measured
        return float(value), float(weight)
    return float(measured), None


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without the bars and warnings of lm-eval and datasets, which go to stderr."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
