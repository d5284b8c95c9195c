"""A suite's tasks on other data than the suite says: a commit that it does not name, a local copy, one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.errors import UsageError
from benchmark.run.request import Request, over
from benchmark.suite import Suite, TaskSettings


def with_other_data(suite: Suite, request: Request) -> Suite:
    """The suite with the tasks of a request on the request's data; their other settings are kept, -T on top.

    Constants that were measured on the suite's data are left out.

    Raises:
        UsageError: -T says a source that a flag says too, or no task of the suite is asked for.
    """
    changed = told(request)
    if not changed:
        return suite
    wanted = [name for name in suite.tasks if request.tasks is None or name in request.tasks]
    if not wanted:
        flag = "--retain-data" if request.retain_data else "-T"
        raise UsageError(
            f"{flag} is about data of your own; give --data with it, or a task of the suite {suite.name}: "
            f"{', '.join(suite.tasks) or 'it has none'}"
        )
    tasks = {name: _changed(suite.tasks[name], changed) for name in wanted}
    return suite.model_copy(update={"tasks": {**suite.tasks, **tasks}})


def told(request: Request) -> dict[str, Any]:
    """What a request says about the settings of tasks: what -T says, and the sources of data.

    Raises:
        UsageError: both say where data comes from.
    """
    settings = dict(request.task_settings)
    for name, source in (("data", request.data), ("retain_data", request.retain_data)):
        said = settings.get(name, {})
        if source is not None and (not isinstance(said, Mapping) or "source" in said):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"-T {name}: {flag} says where it comes from; give settings beside it, {name}.columns say")
        if source is not None:
            settings[name] = {"source": source, **said}
    return settings


def _changed(task: TaskSettings, settings: Mapping[str, Any]) -> TaskSettings:
    return task.model_copy(update={"settings": over(task.settings, settings), "frozen": None})
