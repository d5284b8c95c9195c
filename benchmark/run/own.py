"""What a request puts in the place of a suite's own: the model, its SAEs, the site, and a task over a user's data."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.registry import TASKS, from_file, is_reference, suggestion
from benchmark.run.other_data import told, with_other_data
from benchmark.run.request import FRAME, Request
from benchmark.suite import Suite, TaskSettings
from benchmark.suite_file import load_suite

_KIND_OF_SOURCE = re.compile(r"^(hub|package):")
_VERSION = re.compile(r"(==|@)[^/]*")
_WEIGHTS = re.compile(r"\.(gguf|safetensors)$")


def asked_suite(request: Request) -> Suite:
    """The suite of a request, with what the request says in the place of it.

    Constants that were measured at another site or on another SAE are left out.

    Raises:
        UsageError: the suite cannot be read, or options do not go together.
    """
    _check(request)
    suite = load_suite(request.suite, _given(request))
    if has_own_task(suite, request):
        return _with_own_task(suite, request)
    suite = with_other_data(suite, request)
    if request.site is None and not request.saes:
        return suite
    moved = {"frozen": None} if request.site is None else {"frozen": None, "site": request.site}
    return suite.model_copy(update={"tasks": {n: t.model_copy(update=moved) for n, t in suite.tasks.items()}})


def check_in_file(request: Request) -> None:
    """Whether all that constants depend on stands in the suite's file, so that they can be written into it.

    Raises:
        UsageError: it does not.
    """
    given = {
        "--model": request.model,
        "--sae": request.saes,
        "--data": request.data,
        "--retain-data": request.retain_data,
        "-T": request.task_settings,
        "--site": request.site,
    }
    beside = [flag for flag, value in given.items() if value]
    if beside:
        raise UsageError(
            f"--freeze writes into the file of {request.suite}, which says nothing of {', '.join(beside)}; write a "
            "suite file that says this too, and freeze that"
        )


def model_name(source: str) -> str:
    """What a model is called by its source: the last part of a folder or repository, without version and ending."""
    bare = _VERSION.sub("", _KIND_OF_SOURCE.sub("", source)).rstrip("/")
    return _WEIGHTS.sub("", bare.rpartition("/")[2]) or source


def _check(request: Request) -> None:
    """Whether the options make sense together."""
    if request.model is None and request.model_name is not None:
        raise UsageError("--model-name says what the SAEs of --model call it; give --model too, or leave it out")
    if request.suite == FRAME:
        _check_frame(request)


def has_own_task(suite: Suite, request: Request) -> bool:
    """Whether there is data for a kind of task, and not in the place of that of the suite's tasks."""
    of_suite = suite.tasks if request.tasks is None else set(request.tasks) <= set(suite.tasks)
    return request.data is not None and not of_suite


def _check_frame(request: Request) -> None:
    if request.model is None:
        raise UsageError(f"the suite {FRAME} is a frame for models of your own; give --model, or another --suite")
    if request.site is None and not request.saes:
        raise UsageError("--model needs a place to look at; give its SAE (--sae HOOK=SOURCE), or --site HOOK")
    if request.tasks is None:
        raise UsageError(
            f"--model needs a task; give --task KIND --data FILE, of the kinds {_kinds()}, or a --suite whose tasks it"
            " is to do"
        )


def _given(request: Request) -> dict[str, Any]:
    """Entries of a suite, as a file has them."""
    given: dict[str, Any] = {}
    if request.model is not None:
        given["model"] = {"source": request.model, "name": request.model_name or model_name(request.model)}
    if request.saes:
        given["saes"] = {site: list(sources) for site, sources in request.saes.items()}
    site = request.site or next(iter(request.saes), None)
    if site is not None:
        given["other_tasks"] = {"site": site}
    return given


def _with_own_task(suite: Suite, request: Request) -> Suite:
    """The suite with one task, over the request's data."""
    if request.tasks is None or len(request.tasks) != 1:
        given = ", ".join(request.tasks or ()) or "none"
        raise UsageError(
            f"--data needs one --task, the kind of task that it is for, or tasks of the suite alone, whose data it "
            f"replaces (given: {given}); there are {_kinds()}; the suite {suite.name} has: "
            f"{', '.join(suite.tasks) or 'none'}"
        )
    (kind,) = request.tasks
    if not is_reference(kind) and kind not in TASKS.names():
        known = [*TASKS.names(), *suite.tasks]
        raise UsageError(
            f"--task {kind} is no kind, and no task of the suite {suite.name};{suggestion(kind, known)} there are: "
            f"{', '.join(known)}"
        )
    if suite.other_tasks is None:
        raise UsageError(
            f"--data: the suite {suite.name} does not say how tasks are run that it does not list; give it "
            "`other_tasks:` (site and budgets), or leave --suite out"
        )
    settings = _settings(request, kind, suite.other_tasks)
    task = suite.other_tasks.model_copy(update={"kind": kind, "settings": settings})
    return suite.model_copy(update={"tasks": {kind.rpartition(":")[2]: task}})


def _settings(request: Request, kind: str, task: TaskSettings) -> dict[str, Any]:
    """Settings of the kind: what -T says, the sources of its data, and the task's site if it has one too."""
    settings = told(request)
    return {"site": task.site, **settings} if _has_site(kind) else settings


def _has_site(kind: str) -> bool:
    found = from_file(kind, Task) if is_reference(kind) else TASKS.get(kind)
    return dataclasses.is_dataclass(found) and any(field.name == "site" for field in dataclasses.fields(found))


def _kinds() -> str:
    return ", ".join(TASKS.names())
