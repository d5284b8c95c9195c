"""From a request to a plan and a loaded model; everything is checked before any work starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from benchmark.contracts.defense import Defense
from benchmark.contracts.protocol import Protocol
from benchmark.errors import UsageError
from benchmark.model.subject import Subject, load
from benchmark.names import checked_name
from benchmark.registry import PROTOCOLS, suggestion, threat
from benchmark.run.constants import Known, constants
from benchmark.run.custody import Custody
from benchmark.run.fitness import check_fitness
from benchmark.run.freeze import measure
from benchmark.run.learner import copied
from benchmark.run.needs import announce, needs
from benchmark.run.own import asked_suite, has_own_task
from benchmark.run.pack_rows import rows_that_fit
from benchmark.run.plan import Plan, make_plan, suite_attacks
from benchmark.run.proposal import settled
from benchmark.run.request import Request
from benchmark.run.task_view import TaskView
from benchmark.run.utility import Utility
from benchmark.spec import Named, resolve_defense, resolve_task
from benchmark.suite import Frozen, Suite, TaskSettings


def _nobody(text: str) -> None:
    """Hears nothing."""


@dataclass(frozen=True)
class Prepared:
    """A request with its plan and the model that it is for."""

    request: Request
    plan: Plan
    subject: Subject
    limit: int | None
    rows: int
    """Rows of a pack to begin with."""
    tell: Callable[[str], None] = field(default=_nobody, repr=False)
    """Is told what takes long."""
    known: dict[str, Known] = field(default_factory=dict, repr=False)
    """Constants by task, of those that were asked for."""

    @cached_property
    def learner(self) -> Subject:
        """The model that fits see: the same weights in modules of its own."""
        return copied(self.subject)

    @cached_property
    def custody(self) -> Custody:
        """What fits and attacks leave as it is."""
        return Custody([self.subject, self.learner], self.plan.tasks.values())

    @cached_property
    def utility(self) -> Utility | None:
        """What lm-eval is asked; None: nothing.

        Raises:
            UsageError: a task of it cannot be loaded.
        """
        asked = self.plan.suite.utility if self.request.utility else ()
        entries = [entry.limited(self.limit) for entry in asked]
        return Utility(self.subject, entries) if entries else None

    def constants(self, task: str) -> Known:
        """The suite's constants for a task; where they are stale, those measured before, or now."""
        if task not in self.known:
            settings, attacks = self.plan.suite.tasks[task], suite_attacks(self.plan.suite)
            self.known[task] = constants(self.subject, self.plan.tasks[task], settings, attacks, self.rows, self.tell)
        return self.known[task]


class Opened(NamedTuple):
    """What a request is about, read and loaded, and nothing planned."""

    suite: Suite
    named: Sequence[Named]
    tasks: Mapping[str, TaskView]
    subject: Subject
    rows: int
    """Rows of a pack to begin with."""

    def measured(self, task: str) -> Frozen:
        """The constants of a task, measured now, whatever the suite says of them."""
        settings, attacks = self.suite.tasks[task], suite_attacks(self.suite)
        return measure(self.subject, self.tasks[task], settings, attacks, self.rows)


def opened(request: Request, tell: Callable[[str], None] = _nobody, *, whole: bool = False) -> Opened:
    """Load the suite, its data and its model.

    Args:
        whole: all ``test`` examples of the suite, whatever limit it or the request has.

    Raises:
        UsageError: something asked for does not exist or does not fit.
    """
    suite, names = asked_tasks(request)
    named = named_defenses(suite, request)
    announce(needs(suite, named, names), tell, offline=request.offline)
    tasks = {name: view(suite, name, None if whole else request.limit or suite.limit) for name in names}
    suite_attacks(
        suite, request.attacks, request.attack_settings
    )  # a name that does not exist is said before the model is loaded
    subject = load_subject(suite, request.device, request.dtype)
    check_fitness(subject, suite, tasks)
    return Opened(suite, named, tasks, subject, request.batch_size or rows_that_fit(subject, tasks.values()))


def prepare(request: Request, tell: Callable[[str], None] = _nobody) -> Prepared:
    """Load the suite and its model, resolve every name, and plan.

    Where a suite leaves budgets to the steering ceiling, that is measured before there is a plan, and ``tell`` is told.

    Raises:
        UsageError: something asked for does not exist or does not fit.
    """
    asked, named, tasks, subject, rows = opened(request, tell)
    protocol: Protocol = PROTOCOLS.get(request.protocol)()
    wanted = protocol.attacks(suite_attacks(asked, request.attacks, request.attack_settings))
    suite, known = _settled(asked, tasks, subject, rows, tell)
    plan = make_plan(
        suite,
        tasks,
        named,
        _controls(suite, named) if request.controls else [],
        attacks=list(dict.fromkeys(wanted)),
        weights_sha=subject.weights_sha,
        dtype=request.dtype,
        seed=request.seed,
        protocol=protocol,
        attribution=request.attribution,
    )
    return Prepared(request, plan, subject, request.limit or suite.limit, rows, tell, known)


def asked_tasks(request: Request) -> tuple[Suite, list[str]]:
    """The suite of a request, and the names of the tasks that are wanted; no data is read.

    Raises:
        UsageError: the suite cannot be read, or has no such task.
    """
    asked = asked_suite(request)
    return _with_tasks(asked, None if has_own_task(asked, request) else request.tasks)


def _settled(
    suite: Suite, tasks: Mapping[str, TaskView], subject: Subject, rows: int, tell: Callable[[str], None]
) -> tuple[Suite, dict[str, Known]]:
    """The suite with budgets in the place of ``auto``, and the constants that these are proposed from."""
    changed, known = dict(suite.tasks), dict[str, Known]()
    for name, task in tasks.items():
        settings = suite.tasks[name]
        if settings.unsettled:
            known[name] = constants(subject, task, settings, suite_attacks(suite), rows, tell)
            changed[name] = settled(task, settings, known[name].frozen.ceilings, tell)
    return suite.model_copy(update={"tasks": changed}), known


def load_subject(suite: Suite, device: str, dtype: str) -> Subject:
    """The suite's model, with its SAEs."""
    source = suite.model
    saes = {site: sources[0] for site, sources in suite.saes.items()}
    return load(source.source, name=source.name, device=device, dtype=dtype, saes=saes, bos=source.bos)


def view(suite: Suite, name: str, limit: int | None = None) -> TaskView:
    """A task of a suite, by its name there.

    Raises:
        UsageError: its kind does not exist, or its settings or budgets do not fit.
    """
    chosen = suite.tasks[name]
    for model, budgets in chosen.budgets.items():
        _check_budgets(name, model, budgets)
    task = resolve_task(chosen.kind or name, chosen.settings)
    return TaskView(task, name, test=chosen.examples, sample=suite.sample, limit=limit)


def _check_budgets(task: str, model: str, budgets: Sequence[float]) -> None:
    try:
        threat(model).check(budgets)
    except ValueError as error:
        raise UsageError(f"task {task}: {error}") from error


def _with_tasks(suite: Suite, names: Sequence[str] | None) -> tuple[Suite, list[str]]:
    """The suite with the tasks that are given as files, and the names of the tasks that are wanted."""
    wanted = list(dict.fromkeys(names or suite.tasks))
    files = _others(suite, [name for name in wanted if ".py:" in name])
    missing = [n for n in wanted if n not in suite.tasks and ".py:" not in n]
    if missing:
        meant = suggestion(missing[0], list(suite.tasks))
        raise UsageError(
            f"the suite {suite.name} has no task {', '.join(missing)}.{meant} It has: {', '.join(suite.tasks)}; put "
            "yours into a suite with its site and budgets (`kind: NAME`, see `bench show SUITE`), or give --data for a"
            " kind of task"
        )
    if not files:
        return suite, wanted
    return suite.model_copy(update={"tasks": {**suite.tasks, **files}}), [n.rpartition(":")[2] for n in wanted]


def _others(suite: Suite, classes: Sequence[str]) -> dict[str, TaskSettings]:
    """Tasks that are given as ``file.py:Class``, by name."""
    found: dict[str, TaskSettings] = {}
    for named in classes:
        name = named.rpartition(":")[2]
        if name in found or name in suite.tasks:
            raise UsageError(
                f"--task {named}: two tasks here are named {name}; list this one in a suite under another name "
                f"(`kind: {named}`)"
            )
        found[name] = _as_other(suite, named)
    return found


def _as_other(suite: Suite, named: str) -> TaskSettings:
    """How a task is run that the suite does not list."""
    if suite.other_tasks is None:
        raise UsageError(
            f"--task {named}: the suite {suite.name} does not say how tasks are run that it does not list; give it "
            "`other_tasks:` (site and budgets), or list the task with `kind:`"
        )
    return suite.other_tasks.model_copy(update={"kind": named})


def named_defenses(suite: Suite, request: Request) -> list[Named]:
    """The defenses of a request, or the suite's own.

    Raises:
        UsageError: there is none, or one does not exist.
    """
    given: Sequence[str | Defense] = request.defense or ([suite.defense] if suite.defense else [])
    if not given:
        raise UsageError(f"no defense was given, and the suite {suite.name} names none; give one (--defense)")
    options: Mapping[str, Any] = request.options
    return [resolve_defense(d, options) if isinstance(d, str) else Named(_called(d), d) for d in given]


def _controls(suite: Suite, named: Sequence[Named]) -> list[Named]:
    """The undefended model and the controls that the defenses bring along, unless they are evaluated themselves.

    Of two defenses with controls of one name and different settings, the second's is named after it.
    """
    taken = {n.name: n.defense for n in named}
    undefended = suite.controls.undefended
    found = {undefended: resolve_defense(undefended).defense} if undefended else {}
    for n in named:
        control = n.defense.control()
        if control is None:
            continue
        name = _called(control)
        if control in (taken.get(name), found.get(name)):
            continue
        free = name not in taken and name not in found
        found[name if free else f"{name}-of-{n.name}"] = control
    return [Named(name, defense) for name, defense in found.items() if name not in taken]


def _called(defense: Defense) -> str:
    """The registered name, or that of the class where it was never registered."""
    kind = type(defense).__name__
    return checked_name(getattr(defense, "name", kind), f"the defense {kind}")
