"""From a plan to groups: fit a defense on ``fit``, and classify every test example under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from benchmark.cells.detection import make_detector
from benchmark.cells.group import Group, Scale
from benchmark.cells.reference import Judged, Retention, ceilings, eligible, judge
from benchmark.cells.self_check import restart_is_exact
from benchmark.contracts import Example, Task
from benchmark.model.edits import by_boundary
from benchmark.model.subject import Subject
from benchmark.paper.arms import verdict_of
from benchmark.protocol import STRICT, Protocol
from benchmark.run.prepare import Prepared
from benchmark.sites import Site
from benchmark.spec import Named
from benchmark.suite import Frozen, TaskSettings


class TaskReference:
    """The undefended model on a task's test examples; the same for every defense."""

    def __init__(self, subject: Subject, task: Task, examples: Sequence[Example], protocol: Protocol = STRICT) -> None:
        self.subject, self.task, self.examples, self.protocol = subject, task, examples, protocol
        self.base: Judged = judge(subject, task, examples, {}, verdict_of(task, "base", protocol))
        self.eligible = eligible(subject, task, examples, self.base)
        self.ceiling = ceilings(subject, task, examples, self.base)

    @cached_property
    def retention(self) -> Retention:
        """What a defense should leave alone."""
        return Retention(self.subject, self.task, self.task.retain("test"))


def make_group(
    subject: Subject,
    task: Task,
    named: Named,
    settings: TaskSettings,
    frozen: Frozen,
    reference: TaskReference,
    *,
    attribution: bool = False,
) -> Group:
    """Fit the defense on ``fit`` and classify every test example under it."""
    fitted = named.defense.fit(subject, task, task.examples("fit"))
    edits = by_boundary(subject, fitted.edits)
    norms = {Site.parse(hook).boundary: norm for hook, norm in frozen.residual_norms.items()}
    sites = tuple(sorted(edits)) or (Site.parse(settings.site).boundary,)
    group = Group(
        subject=subject,
        task=task,
        fitted=fitted,
        edits=edits,
        sites=sites,
        examples=reference.examples,
        base=reference.base,
        defended=judge(
            subject, task, reference.examples, fitted.edits, verdict_of(task, "defended", reference.protocol)
        ),
        eligible=reference.eligible,
        ceiling=reference.ceiling,
        scale=Scale(norms, frozen.embedding_norm),
        perturbed=settings.perturbed,
        suffix_tokens=settings.suffix_tokens,
        restart=False,
        tau=frozen.tau,
        detector=make_detector(subject, task, fitted),
        attribution=attribution,
        protocol=reference.protocol,
    )
    return replace(group, restart=restart_is_exact(group))


def groups(prepared: Prepared) -> Iterator[tuple[str, Group]]:
    """Every defense of a plan fitted on every task: (name of the defense, group)."""
    for task_name, task in prepared.plan.tasks.items():
        reference = TaskReference(prepared.subject, task, prepared.examples(task), prepared.plan.protocol)
        frozen = prepared.constants(task_name)
        for named in prepared.plan.defenses.values():
            settings = prepared.plan.suite.tasks[task_name]
            yield named.name, make_group(prepared.subject, task, named, settings, frozen, reference)
