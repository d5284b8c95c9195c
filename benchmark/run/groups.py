"""From a plan to groups: fit a defense on ``fit``, and classify every test example under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from benchmark.contracts.example import Example
from benchmark.contracts.protocol import Protocol
from benchmark.contracts.threat import Threat
from benchmark.measure.detection import make_detector
from benchmark.measure.group import Group, Scale
from benchmark.measure.judging import Judged, Retention, eligible, judge, saturation
from benchmark.measure.self_check import tail_is_exact
from benchmark.model.edits import by_boundary
from benchmark.model.subject import Subject
from benchmark.registry import threat
from benchmark.run.fitting import Fit
from benchmark.run.prepare import Prepared
from benchmark.run.task_view import TaskView
from benchmark.sites import Site
from benchmark.spec import Named
from benchmark.suite import Frozen, TaskSettings


class Undefended:
    """The undefended model on a task's test examples, and what defenses learn from; the same for all of them."""

    def __init__(
        self,
        subject: Subject,
        task: TaskView,
        settings: TaskSettings,
        frozen: Frozen,
        protocol: Protocol | None = None,
        examples: Sequence[Example] | None = None,
    ) -> None:
        """``examples``: of ``test``; None: the task's."""
        self.subject, self.task, self.settings, self.frozen = subject, task, settings, frozen
        self.protocol = protocol or Protocol()
        self.examples = task.examples("test") if examples is None else examples
        self.base: Judged = judge(subject, task, self.examples, {}, self.protocol.verdict(task, "base"))
        self.eligible = eligible(subject, task, self.examples, self.base)
        self.saturation = saturation(subject, task, self.examples)
        norms = {Site.parse(hook).boundary: norm for hook, norm in frozen.residual_norms.items()}
        self.scale = Scale(norms, frozen.embedding_norm)

    @cached_property
    def retention(self) -> Retention:
        """What a defense should leave alone."""
        return Retention(self.subject, self.task, self.task.retain("test"))

    @cached_property
    def fitting(self) -> Fit:
        """What a defense learns from."""
        return Fit(
            self.subject,
            self.task,
            self.subject.check(Site.parse(self.settings.site)),
            scale=self.scale,
            perturbed=self.settings.perturbed,
            suffix_tokens=self.settings.suffix_tokens,
        )

    @property
    def threats(self) -> list[Threat]:
        """The threat models that the suite has budgets for."""
        return [threat(name) for name in self.settings.budgets]


def make_group(undefended: Undefended, named: Named, *, attribution: bool = False) -> Group:
    """Fit the defense on ``fit`` and classify every test example under it."""
    subject, task, settings = undefended.subject, undefended.task, undefended.settings
    fitted = named.defense.fit(undefended.fitting)
    edits = by_boundary(subject, fitted.edits)
    verdict = undefended.protocol.verdict(task, "defended")
    group = Group(
        subject=subject,
        task=task,
        fitted=fitted,
        edits=edits,
        sites=tuple(sorted(edits)) or (Site.parse(settings.site).boundary,),
        examples=undefended.examples,
        base=undefended.base,
        defended=judge(subject, task, undefended.examples, fitted.edits, verdict),
        eligible=undefended.eligible,
        saturation=undefended.saturation,
        scale=undefended.scale,
        perturbed=settings.perturbed,
        suffix_tokens=settings.suffix_tokens,
        tail=False,
        tau=undefended.frozen.tau,
        detector=make_detector(subject, task, fitted),
        attribution=attribution,
        protocol=undefended.protocol,
        home=Site.parse(settings.site).boundary,
    )
    # at its own sites, and at the suite's, where it may be attacked too
    attacked = [group] if group.sites == (group.home,) else [group, group.at_home]
    return replace(group, tail=all(tail_is_exact(place, undefended.threats) for place in attacked))


def groups(prepared: Prepared) -> Iterator[tuple[str, Group]]:
    """Every defense of a plan fitted on every task: (name of the defense, group)."""
    for name in prepared.plan.tasks:
        undefended = prepared_task(prepared, name)
        for named in prepared.plan.defenses.values():
            yield named.name, make_group(undefended, named)


def prepared_task(prepared: Prepared, name: str, frozen: Frozen | None = None) -> Undefended:
    """The undefended model on a task of a plan."""
    settings = prepared.plan.suite.tasks[name]
    constants = frozen or prepared.constants(name)
    return Undefended(prepared.subject, prepared.plan.tasks[name], settings, constants, prepared.plan.protocol)
