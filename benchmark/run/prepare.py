"""From what a user asked for to a plan and a loaded model; everything is checked before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from benchmark.contracts import Defense, Example, Task
from benchmark.errors import UsageError
from benchmark.model.subject import Subject, load
from benchmark.protocol import named_protocol
from benchmark.registry import TASKS
from benchmark.run.freeze import measure
from benchmark.run.plan import Plan, attacks_under, make_plan, suite_attacks
from benchmark.spec import Named, build, resolve_defense
from benchmark.suite import Frozen, Suite, load_suite

CPU_ROWS = 256
"""Rows of a pack on a CPU: more do not go faster there."""
CUDA_ROWS = 2048
"""Rows that a GPU is first tried with; running out of memory halves them."""

Defenses = str | Defense | Sequence[str | Defense]
"""Registered names, ``file.py:Class``, spec files or objects."""


@dataclass(frozen=True)
class Prepared:
    """A plan with the model it is for."""

    plan: Plan
    subject: Subject
    limit: int | None
    seed: int
    dtype: str
    rows: int
    """Rows of a pack to begin with."""
    attribution: bool = False

    def examples(self, task: Task) -> Sequence[Example]:
        """The test examples of a task, within the limit."""
        return spread(task.examples("test"), self.plan.suite.size(task.name, self.limit))

    def stale(self, task: str) -> str | None:
        """Why the suite's constants cannot be used for a task; None: they can."""
        frozen = self.plan.suite.tasks[task].frozen
        if frozen is None:
            return "the suite has none"
        return None if frozen.weights_sha == self.subject.weights_sha else "the suite's were measured on other weights"

    def constants(self, task: str) -> Frozen:
        """The suite's constants for a task, measured now where they are stale."""
        settings = self.plan.suite.tasks[task]
        if self.stale(task) is None and settings.frozen is not None:
            return settings.frozen
        return measure(self.subject, self.plan.tasks[task], settings, self.rows)


def prepare(
    defense: Defenses,
    *,
    suite: str = "embedded",
    tasks: Sequence[str] | None = None,
    attacks: Sequence[str] | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    controls: bool = True,
    attribution: bool = False,
    options: Mapping[str, Any] | None = None,
    protocol: str = "strict",
) -> Prepared:
    """Load the suite and its model, resolve every name, and plan. The arguments are those of ``evaluate``.

    Raises:
        UsageError: something asked for does not exist or does not fit.
    """
    chosen = load_suite(suite)
    named = _name(defense, options)
    found = _tasks(chosen, tasks)
    followed = named_protocol(protocol)
    wanted = attacks_under(followed, suite_attacks(chosen, attacks))
    subject = load_subject(chosen, device, dtype)
    limit = limit or chosen.limit
    plan = make_plan(
        chosen,
        found,
        named,
        _controls(named) if controls else [],
        attacks=wanted,
        examples={n: spread(task.examples("test"), chosen.size(n, limit)) for n, task in found.items()},
        weights_sha=subject.weights_sha,
        dtype=dtype,
        seed=seed,
        protocol=followed,
        attribution=attribution,
    )
    rows = batch_size or (CUDA_ROWS if subject.device.type == "cuda" else CPU_ROWS)
    return Prepared(plan, subject, limit, seed, dtype, rows, attribution)


def load_subject(suite: Suite, device: str, dtype: str) -> Subject:
    """The suite's model, with its SAEs and the sites of its tasks."""
    return load(
        suite.model.source,
        name=suite.model.name,
        revision=suite.model.revision,
        device=device,
        dtype=dtype,
        saes=suite.saes,
        default_sites={task: settings.site for task, settings in suite.tasks.items()},
    )


def _name(defense: Defenses, options: Mapping[str, Any] | None) -> list[Named]:
    given = [defense] if isinstance(defense, (str, Defense)) else list(defense)
    if not given:
        raise UsageError("no defense was given")
    return [resolve_defense(d, options) if isinstance(d, str) else Named(d.name, d) for d in given]


def _controls(named: Sequence[Named]) -> list[Named]:
    """``none`` and the controls that the defenses bring along, unless they are evaluated themselves.

    Of two defenses with controls of one name and different settings, the second's is named after it.
    """
    taken = {n.name: n.defense for n in named}
    found = {"none": resolve_defense("none").defense}
    for n in named:
        control = n.defense.control()
        if control is None or control in (taken.get(control.name), found.get(control.name)):
            continue
        free = control.name not in taken and control.name not in found
        found[control.name if free else f"{control.name}-of-{n.name}"] = control
    return [Named(name, defense) for name, defense in found.items() if name not in taken]


def _tasks(suite: Suite, names: Sequence[str] | None) -> dict[str, Task]:
    missing = [n for n in names or () if n not in suite.tasks]
    for name in missing:
        TASKS.get(name)  # an unknown name is told apart from one that the suite lacks
    if missing:
        raise UsageError(f"the suite {suite.name} has no task {', '.join(missing)}; it has: {', '.join(suite.tasks)}")
    built = {n: build(TASKS.get(n), suite.tasks[n].settings, f"task {n}") for n in dict.fromkeys(names or suite.tasks)}
    return built if suite.sample is None else {n: _sampled(task, suite.sample) for n, task in built.items()}


def _sampled(task: Task, most: int) -> Task:
    """The task with at most ``most`` examples in every split but ``test``, and in every retain set."""
    few, examples, retain = copy(task), task.examples, task.retain
    vars(few)["examples"] = lambda split: examples(split) if split == "test" else spread(examples(split), most)
    vars(few)["retain"] = lambda split: spread(retain(split), most)
    return few


def spread(examples: Sequence[Example], limit: int | None) -> Sequence[Example]:
    """At most ``limit`` examples, spread evenly over the whole list, so that no cluster is cut off."""
    if limit is None or limit >= len(examples):
        return examples
    return [examples[i * len(examples) // limit] for i in range(limit)]
