"""From a plan to groups: fit a defense on ``fit``, and classify every test example under it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmark.contracts.defense import FittedDefense
from benchmark.contracts.example import Example
from benchmark.contracts.protocol import Protocol
from benchmark.contracts.threat import Threat
from benchmark.errors import UsageError
from benchmark.measure.detection import make_detector
from benchmark.measure.group import Group, Scale
from benchmark.measure.judging import Judged, Retention, eligible, judge, saturation
from benchmark.measure.self_check import tail_is_exact, tails_run_as_one
from benchmark.model.edits import by_boundary
from benchmark.model.subject import Subject
from benchmark.registry import threat
from benchmark.run.checked import checked, judge_finite
from benchmark.run.custody import Custody, told
from benchmark.run.fitting import Fit
from benchmark.run.learner import copied
from benchmark.run.plan import fresh_examples
from benchmark.run.prepare import Prepared
from benchmark.run.random_state import seeded
from benchmark.run.saes import Saes
from benchmark.run.task_view import TaskView, evenly
from benchmark.sealed import sealed
from benchmark.sites import Site
from benchmark.spec import Edition, Named
from benchmark.suite import Frozen, TaskSettings

DEV = 48
"""Examples of ``dev`` on which a defense is compared with what it does on ``test``."""


def scale_of(frozen: Frozen) -> Scale:
    """What a budget of eps = 1 is, by a suite's constants."""
    norms = {Site.parse(hook).boundary: norm for hook, norm in frozen.residual_norms.items()}
    return Scale(norms, frozen.embedding_norm)


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
        *,
        seed: int = 0,
        learner: Subject | None = None,
        custody: Custody | None = None,
        saes: Saes | None = None,
    ) -> None:
        """``examples``: of ``test``; None: the task's. ``seed``: of the run. ``learner``: the model that fits see, with
        modules of its own, and ``custody`` of both; None: made when asked for. ``saes``: the run's."""
        self.seed, self._learner, self._custody, self._saes = seed, learner, custody, saes
        self.subject, self.task, self.settings, self.frozen = subject, task, settings, frozen
        self.protocol = protocol or Protocol()
        self.examples = task.examples("test") if examples is None else examples
        verdict = self.protocol.verdict(task, "base")
        self.base: Judged = judge(subject, task, self.examples, {}, verdict, frozen.floor)
        self.eligible = eligible(subject, task, self.examples, self.base)
        self.saturation = saturation(subject, task, self.examples)
        self.scale = scale_of(frozen)
        self._editions: dict[Edition, Undefended] = {}

    def edition(self, edition: Edition | None) -> Undefended:
        """The same with the SAEs of an edition; what was measured without any of them is shared."""
        if edition is None:
            return self
        if edition not in self._editions:
            other, saes = copy(self), dict(edition.saes)
            other._learner, other._custody = self.learner, self.custody
            other.subject, other.fitting = self.subject.reading(saes), self.fitting.reading(saes)
            self._editions[edition] = other
        return self._editions[edition]

    @cached_property
    def retention(self) -> Retention:
        """What a defense should leave alone."""
        return Retention(self.subject, self.task, self.task.retain("test"))

    @cached_property
    def dev(self) -> tuple[Sequence[Example], Tensor]:
        """Some examples of ``dev``, and which of them are eligible, (examples,) bool."""
        examples = evenly(self.task.examples("dev"), DEV)
        if not examples:
            return (), torch.zeros(0, dtype=torch.bool)
        return examples, eligible(self.subject, self.task, examples, judge(self.subject, self.task, examples, {}))

    @cached_property
    def learner(self) -> Subject:
        """The model that fits see: the same weights in modules of its own."""
        return self._learner or copied(self.subject)

    @cached_property
    def custody(self) -> Custody:
        """What fits and attacks leave as it is."""
        return self._custody or Custody([self.subject, self.learner], [self.task])

    @cached_property
    def fitting(self) -> Fit:
        """What a defense learns from."""
        return Fit(
            self.learner,
            self.task,
            self.subject.check(Site.parse(self.settings.site)),
            scale=self.scale,
            perturbed=self.settings.perturbed,
            suffix_tokens=self.settings.suffix_tokens,
            seed=self.seed,
            floor=self.frozen.floor,
            saes=self._saes,
        )

    @property
    def threats(self) -> list[Threat]:
        """The threat models that the suite has budgets for."""
        return [threat(name) for name in self.settings.budgets]


def fit(undefended: Undefended, named: Named) -> FittedDefense:
    """Let a defense learn: seeded, from ``fit`` alone, and without leaving anything behind.

    Raises:
        UsageError: it left something, which is put back, or it gave something that is no fitted defense.
        Exception: whatever it raises.
    """
    task, shown = undefended.task, undefended.fitting
    lent = undefended.custody.kept(shown, shown.task)
    with lent as left, seeded(undefended.seed, task.name, named.family), sealed(f"{named.name} on {task.name}"):
        shown.asked.clear()
        fitted = named.defense.fit(shown)
    if left:
        raise UsageError(
            f"{named.name} changed, while it learned on {task.name}: {told(left)}. Everything was put back; let it"
            " act by the edits that it returns, and by nothing else"
        )
    return checked(fitted)


def make_group(undefended: Undefended, named: Named, *, attribution: bool = False) -> Group:
    """Fit the defense on ``fit`` and classify every test example under it.

    Raises:
        UsageError: it left something behind, or what it gave is not what it promised.
    """
    undefended = undefended.edition(named.edition)
    subject, task, settings = undefended.subject, undefended.task, undefended.settings
    fitted = fit(undefended, named)
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
        defended=judge_finite(subject, task, undefended.examples, fitted.edits, verdict, undefended.frozen.floor),
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
        floor=undefended.frozen.floor,
        home=Site.parse(settings.site).boundary,
    )
    # at its own sites, and at the suite's, where it may be attacked too
    attacked = [group] if group.sites == (group.home,) else [group, group.at_home]
    tail = all(tail_is_exact(place, undefended.threats) for place in attacked)
    together = tail and all(tails_run_as_one(place, undefended.threats) for place in attacked)
    return replace(group, tail=tail, together=together)


def on_fresh(group: Group, undefended: Undefended, spec: Mapping[str, Any], seed: int | None = None) -> Group:
    """A group's fitted defense on examples that were made for it.

    Args:
        spec: of the defense.
        seed: that they are made from; None: the run's.
    """
    subject, task = undefended.subject, undefended.task
    examples = fresh_examples(task, spec, undefended.seed if seed is None else seed)
    floor = undefended.frozen.floor
    base = judge(subject, task, examples, {}, undefended.protocol.verdict(task, "base"), floor)
    verdict = undefended.protocol.verdict(task, "defended")
    return replace(
        group,
        examples=examples,
        base=base,
        defended=judge_finite(subject, task, examples, group.fitted.edits, verdict, floor),
        eligible=eligible(subject, task, examples, base),
        saturation=saturation(subject, task, examples),
    )


def groups(prepared: Prepared) -> Iterator[tuple[str, Group]]:
    """Every defense of a plan fitted on every task: (name of the defense, group)."""
    for name in prepared.plan.tasks:
        undefended = prepared_task(prepared, name)
        for named in prepared.plan.on(name):
            yield named.name, make_group(undefended, named)


def looked_at(prepared: Prepared, name: str, before: Iterable[Mapping[str, Any]] = ()) -> Saes:
    """The SAEs of a task of a plan; all of the suite's at its site are found healthy.

    Raises:
        UsageError: one is not.
    """
    saes, suite = Saes(prepared.learner, prepared.plan.tasks[name], before), prepared.plan.suite
    site = suite.tasks[name].site
    for source in suite.saes.get(site, ()):
        saes.opened(Site.parse(site), source)
    return saes


def prepared_task(prepared: Prepared, name: str, frozen: Frozen | None = None, saes: Saes | None = None) -> Undefended:
    """The undefended model on a task of a plan.

    Raises:
        UsageError: its SAE is not healthy.
    """
    settings = prepared.plan.suite.tasks[name]
    saes = saes or looked_at(prepared, name)
    constants = frozen or prepared.constants(name).frozen
    return Undefended(
        prepared.subject,
        prepared.plan.tasks[name],
        settings,
        constants,
        prepared.plan.protocol,
        seed=prepared.request.seed,
        learner=prepared.learner,
        custody=prepared.custody,
        saes=saes,
    )
