"""What the pairs share: a clamp on a task that is read by its choices, and one on a task that writes.

Everything is made once and only when a pair asks for it; pairs that look at the same perturbations share them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from torch import Tensor

from benchmark.contracts.attack import Attack
from benchmark.contracts.readout import Readout
from benchmark.errors import UsageError
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.measure.remeasure import Measured, remeasure
from benchmark.model.pack import Pack, make_packs
from benchmark.model.streams import embedding_norm, residual_norms
from benchmark.published.protocol import only
from benchmark.published.recovery import PaperRecovery
from benchmark.published.switches import Switch
from benchmark.registry import threat
from benchmark.run.freeze import site_at
from benchmark.run.groups import Undefended, make_group
from benchmark.run.plan import suite_attacks
from benchmark.run.prepare import load_subject
from benchmark.run.task_view import TaskView, evenly
from benchmark.search.pack_size import PackSize
from benchmark.sites import Site
from benchmark.spec import Named, resolve_defense, resolve_task
from benchmark.suite import Frozen, Suite
from benchmark.suite_file import load_suite
from benchmark.threats.after_edit import AfterEdit
from benchmark.threats.problems import make_problem
from benchmark.threats.vectors import TOLERANCE

ROWS = 256
"""Rows of a forward pass."""
GAIN = 3.0
"""Of the clamp on texts, as in the study."""
SEED = 0
STEPS = 60
"""Of the study's search, which took 100 to 150."""
FEW = 10
"""Of a search inside the cross-layer set, each of which costs many passes."""


class Unavailable(Exception):
    """The suite has nothing on which a pair could be shown."""


class Aimed(NamedTuple):
    """Perturbations of a pack, and how they were aimed."""

    target: Aim
    delta: Tensor
    """(examples, sites, perturbed, d_model)."""


class Workbench:
    """A suite's model with two clamped tasks; the clamp is the suite's own defense."""

    def __init__(self, suite: str = "embedded", *, limit: int = 32, device: str = "auto") -> None:
        """``limit``: examples of a task, the suppressed ones of which are attacked; half as many texts."""
        self.suite: Suite = load_suite(suite)
        self.limit = limit
        self.subject = load_subject(self.suite, device, "float32")

    @cached_property
    def choices(self) -> Group:
        """The default clamp, selected and calibrated, on the first task with a readout of choices."""
        task = self._task(lambda readout: readout.reads_at is None and not readout.writes_text, "its choices")
        return self._group(self._undefended(task, 2 * self.limit), {}, self.limit)

    @cached_property
    def text(self) -> Group:
        """A gain on amplified latents of the last two layers with an SAE, on the first task that writes."""
        sites = sorted(self.subject.saes, key=lambda name: Site.parse(name).boundary)[-2:]
        options = {"mode": "scale", "strength": GAIN, "count": 12, "layers": [{"site": site} for site in sites]}
        return self._group(self._writing, options, self.limit // 2)

    @cached_property
    def some_text(self) -> Group:
        """The same with half as many examples, for searches that cost many passes."""
        return attacked(self.text, self.limit // 4)

    @cached_property
    def broken(self) -> Group:
        """A clamp that breaks the model's texts: a high gain on what fires often, whatever it is for."""
        options = {"mode": "scale", "strength": 24.0, "select": "firing-rate", "highest_retain_rate": 0.5, "count": 12}
        return self._group(self._writing, options, self.limit // 2)

    @cached_property
    def free(self) -> list[Aimed]:
        """Of ``choices`` at the top budget, after the edit: what the study's search ends at, without a constraint."""
        return search(self.choices, PaperRecovery(steps=STEPS), self.top(self.choices))

    @cached_property
    def anchored(self) -> list[Aimed]:
        """Of ``text`` at the top budget, after the edit: perturbations of the prompt's last position."""
        return search(self.text, self.recovery(), self.top(self.text))

    @cached_property
    def sketched(self) -> list[Aimed]:
        """Of ``text`` at the middle budget, the answer perturbed too: the study's cross-layer search."""
        return self._sketched(FEW, self.middle(self.text))

    @cached_property
    def sketched_far(self) -> list[Aimed]:
        """The same at the top budget, for long enough to recover."""
        return self._sketched(3 * FEW, self.top(self.text))

    def _sketched(self, steps: int, eps: float) -> list[Aimed]:
        tried = PaperRecovery(constraint="jacobian", steps=steps)
        return search(under(Switch.SKETCH_PROJECTION, self.some_text), tried, eps, answer=True)

    def recovery(self, constraint: Literal["none", "encoder", "jacobian"] = "none") -> Attack:
        """The suite's own search in the stream, once, behind the edit."""
        changes = {"threat_model": AfterEdit.name, "constraint": constraint, "restarts": 1}
        for attack in suite_attacks(self.suite):
            plain = attack.searches and not attack.is_control and not attack.learns
            if plain and threat(attack.threat_model).unit == AfterEdit.unit:
                return replace(attack, **changes)
        raise Unavailable(f"the suite {self.suite.name} has no attack that searches in the residual stream")

    def random(self) -> Attack:
        """What that search is held against: one random direction."""
        for control in self.recovery().controls():
            if not control.searches and any(control.budgets((1.0,))):
                return replace(control, restarts=1)
        raise Unavailable(f"no attack of the suite {self.suite.name} has a control that draws at random")

    def budgets(self, group: Group, model: str = AfterEdit.name) -> tuple[float, ...]:
        """What the suite gives a threat model on the group's task, ascending.

        Raises:
            Unavailable: nothing.
        """
        found = self.suite.tasks[group.task.name].budgets.get(model)
        if found is None:
            raise Unavailable(f"the suite {self.suite.name} has no budgets of {model} for {group.task.name}")
        return found

    def top(self, group: Group) -> float:
        """The largest budget behind the edit."""
        return self.budgets(group)[-1]

    def middle(self, group: Group) -> float:
        """The middle one."""
        budgets = self.budgets(group)
        return budgets[len(budgets) // 2]

    @cached_property
    def _writing(self) -> Undefended:
        task = self._task(lambda readout: readout.writes_text, "what the model writes")
        return self._undefended(task, self.limit)

    def _task(self, fits: Callable[[Readout], bool], what: str) -> TaskView:
        for name, settings in self.suite.tasks.items():
            task = resolve_task(settings.kind or name, settings.settings)
            if fits(task.readout):
                return TaskView(task, name)
        raise Unavailable(f"the suite {self.suite.name} has no task that is read by {what}")

    def _undefended(self, task: TaskView, examples: int) -> Undefended:
        tried = evenly(task.examples("test"), examples)
        settings = self.suite.tasks[task.name]
        return Undefended(self.subject, task, settings, self._constants(task), examples=tried)

    def _group(self, undefended: Undefended, options: Mapping[str, Any], most: int) -> Group:
        group = make_group(undefended, self._clamp(options))
        if not group.suppressed.any():
            raise Unavailable(f"the clamp suppresses nothing of {group.task.name}")
        return attacked(group, most)

    def _clamp(self, options: Mapping[str, Any]) -> Named:
        if self.suite.defense is None:
            raise Unavailable(f"the suite {self.suite.name} names no defense")
        try:
            return resolve_defense(self.suite.defense, options)
        except UsageError as error:
            raise Unavailable(f"the suite's own defense is no clamp with these settings: {error}") from error

    def _constants(self, task: TaskView) -> Frozen:
        """The suite's, or what the pairs need of them: a steering ceiling takes minutes and is not used here."""
        settings = self.suite.tasks[task.name]
        if settings.frozen is not None and settings.frozen.weights_sha == self.subject.weights_sha:
            return settings.frozen
        fit = task.examples("fit")
        norms = residual_norms(self.subject, task, fit)
        return Frozen(
            weights_sha=self.subject.weights_sha,
            residual_norms={str(site_at(self.subject, b)): norm for b, norm in norms.items()},
            embedding_norm=embedding_norm(self.subject, task, fit),
            ceilings={},
            tau=TOLERANCE,
        )


def attacked(group: Group, most: int) -> Group:
    """The group with at most so many suppressed examples to attack."""
    first = group.suppressed.cumsum(0) <= most
    return replace(group, eligible=group.suppressed & first)


def under(switch: Switch, group: Group) -> Group:
    """The group with one switch on."""
    return replace(group, protocol=only(switch))


def packs(group: Group) -> list[Pack]:
    """The suppressed examples."""
    return make_packs(group.subject, group.task, group.attacked, ROWS)


def search(group: Group, attack: Attack, eps: float, *, answer: bool = False) -> list[Aimed]:
    """Perturbations that an attack finds at one budget, pack by pack.

    Args:
        answer: the forced answer's positions are perturbed too, not only the prompt's.
    """
    found = []
    for pack in packs(group):
        target: Aim = threat(attack.threat_model).aim(group, attack.constraint, attack.goal, pack)
        if answer:
            target = with_answer(group, target)
        problem = make_problem(group, target, attack.terms(SEED), [eps], PackSize(ROWS))
        delta = problem.restore(attack.run(problem).proposal.detach())
        found.append(Aimed(target, delta.view(len(pack), attack.restarts, *delta.shape[1:])[:, 0]))
    return found


def with_answer(group: Group, target: Aim) -> Aim:
    """The aim widened to every position from the first perturbed one on."""
    writes = replace(target.writes, width=target.pack.length - target.writes.start)
    return target._replace(writes=writes, unit=group.scale.unit(writes))


def measured(group: Group, found: list[Aimed]) -> list[Measured]:
    """What perturbations do, re-measured under the group's protocol."""
    return [m for target, delta in found for m in remeasure(group, target, delta, 1, PackSize(ROWS))]


def setting(group: Group, what: str, eps: float) -> str:
    """A pair's setting in words."""
    return f"{group.task.name}, {what}, eps {eps:g}"
