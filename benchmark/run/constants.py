"""Constants of a task that its suite does not have: measured once, and kept in the user's cache for the next run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from benchmark.cache import cache_dir
from benchmark.contracts.attack import Attack
from benchmark.contracts.protocol import Protocol
from benchmark.files import remedy, write_atomically
from benchmark.model.subject import Subject
from benchmark.run.freeze import measure, steering
from benchmark.run.parts import parts_of
from benchmark.run.plan import Cell
from benchmark.run.task_view import TaskView
from benchmark.suite import Frozen, TaskSettings
from benchmark.values import by_content, sha

Tell = Callable[[str], None]


class Known(NamedTuple):
    """Constants of a task, and where they are from."""

    frozen: Frozen
    why: str | None = None
    """Why they are not the suite's; None: they are."""
    cached: bool = False
    """They were measured by an earlier run."""
    seconds: float = 0.0
    """What measuring them, or looking for them, took."""


def stale(subject: Subject, frozen: Frozen | None) -> str | None:
    """Why a suite's constants cannot be used for a model; None: they can."""
    if frozen is None:
        return "the suite has none"
    same = frozen.weights_sha == subject.weights_sha
    return None if same else "the suite's were measured on other weights, or another configuration or tokenizer"


def constants(
    subject: Subject, task: TaskView, settings: TaskSettings, attacks: Sequence[Attack], rows: int, tell: Tell
) -> Known:
    """The suite's constants of a task; else those that were measured of the same before; else measured now, which is
    told."""
    why = stale(subject, settings.frozen)
    if why is None and settings.frozen is not None:
        return Known(settings.frozen)
    started = time.perf_counter()
    key = identity(subject, task, settings, attacks)
    file = cache_dir("constants") / f"{key}.json"
    found = _read(file, key)
    if found is not None:
        tell(f"{task.name}: norms, ceilings and tau were measured before ({why}): {file}")
        return Known(found, why, True, time.perf_counter() - started)
    tell(f"{task.name}: measuring norms, ceilings and tau ({why}) ...")
    found = measure(subject, task, settings, attacks, rows)
    seconds = time.perf_counter() - started
    tell(f"{task.name}: norms, ceilings and tau measured in {seconds:.1f} s; {_keep(file, key, found)}")
    return Known(found, why, False, seconds)


def identity(subject: Subject, task: TaskView, settings: TaskSettings, attacks: Sequence[Attack]) -> str:
    """Hash of all that the constants of a task depend on, with the sources that measure them."""
    cells = [Cell("undefended", task.name, "", attack, ()) for attack in steering(task, settings, attacks).values()]
    sae = subject.saes.get(settings.site)
    left_out = {"frozen", "kind", "settings", "examples"}  # the task's examples and code stand for these
    return sha(
        {
            "model": subject.weights_sha,
            "dtype": str(subject.dtype),
            "sae": None if sae is None else by_content(sae),
            "run": settings.model_dump(mode="json", exclude=left_out),
            "parts": parts_of(cells, {}, {task.name: task}, Protocol()),
        }
    )


def _read(file: Path, key: str) -> Frozen | None:
    """What a file keeps, if it is whole and of this key."""
    try:
        held: Any = json.loads(file.read_text("utf-8"))
        return Frozen.model_validate_json(json.dumps(held["frozen"]), strict=True) if held["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None


def _keep(file: Path, key: str, found: Frozen) -> str:
    """What became of keeping them; a run that cannot keep them has them all the same."""
    content: Mapping[str, Any] = {"key": key, "frozen": found.model_dump(mode="json")}
    text = json.dumps(content, indent=1, allow_nan=False)
    try:
        write_atomically(file, lambda part: part.write_text(text, "utf-8"))
    except OSError as error:
        return f"they cannot be kept in {file}: {remedy(error)[0]}"
    return f"kept in {file}"
