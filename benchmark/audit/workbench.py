"""What the pairs share: a clamp on a task that is read by its choices, and one on a task that writes.

Everything is made once and only when a pair asks for it; pairs that look at the same perturbations share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor

from benchmark.cells.aim import TOLERANCE, Aim, aim
from benchmark.cells.group import Group
from benchmark.cells.reference import embedding_norm, residual_norms
from benchmark.cells.remeasure import Row, remeasure
from benchmark.cells.residual import make_problem
from benchmark.contracts import Attack, Continuation, Readout, Task, TokenLogits
from benchmark.model.pack import Pack
from benchmark.model.packs import make_packs
from benchmark.paper.drift import first_row_speaks
from benchmark.protocol import Switch, only
from benchmark.registry import TASKS
from benchmark.run.fitting import TaskReference, make_group
from benchmark.run.prepare import load_subject, spread
from benchmark.search.pack_size import PackSize
from benchmark.sites import Site
from benchmark.spec import build, resolve_attack, resolve_defense
from benchmark.suite import Frozen, Suite, load_suite

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


class Found(NamedTuple):
    """Perturbations of a pack, and how they were aimed."""

    target: Aim
    delta: Tensor
    """(examples, sites, perturbed, d_model)."""


class Workbench:
    """A suite's model with two clamped tasks."""

    def __init__(self, suite: str = "embedded", *, limit: int = 32, device: str = "auto") -> None:
        """``limit``: examples of a task, the suppressed ones of which are attacked; half as many texts."""
        self.suite: Suite = load_suite(suite)
        self.limit = limit
        self.subject = load_subject(self.suite, device, "float32")

    @cached_property
    def choices(self) -> Group:
        """The default clamp, selected and calibrated, on the first task with a readout of choices."""
        return self._group(self._task(TokenLogits), {}, 2 * self.limit, self.limit)

    @cached_property
    def text(self) -> Group:
        """A gain on amplified latents of the last two layers with an SAE, on the first task that writes."""
        sites = sorted(self.subject.saes, key=lambda name: Site.parse(name).boundary)[-2:]
        options = {"mode": "scale", "strength": GAIN, "layers": [{"site": site} for site in sites]}
        return self._group(self._task(Continuation), options, self.limit, self.limit // 2)

    @cached_property
    def some_text(self) -> Group:
        """The same with half as many examples, for searches that cost many passes."""
        return attacked(self.text, self.limit // 4)

    @cached_property
    def broken(self) -> Group:
        """A clamp that breaks the model's texts: a high gain on what fires often, whatever it is for."""
        options = {"mode": "scale", "strength": 24.0, "select": "firing-rate", "highest_retain_rate": 0.5}
        return self._group(self._task(Continuation), options, self.limit, self.limit // 2)

    @cached_property
    def free(self) -> list[Found]:
        """Of ``choices`` at the top budget, after the edit: what the study's search ends at, without a constraint."""
        return search(self.choices, attack("paper-recovery", steps=STEPS), self.top(self.choices))

    @cached_property
    def anchored(self) -> list[Found]:
        """Of ``text`` at the top budget, after the edit: perturbations of the prompt's last position."""
        return search(self.text, attack("recovery", threat_model="after_edit", restarts=1), self.top(self.text))

    @cached_property
    def sketched(self) -> list[Found]:
        """Of ``text`` at the middle budget, the answer perturbed too: the study's cross-layer search."""
        return self._sketched(FEW, self.middle(self.text))

    @cached_property
    def sketched_far(self) -> list[Found]:
        """The same at the top budget, for long enough to recover."""
        return self._sketched(3 * FEW, self.top(self.text))

    def _sketched(self, steps: int, eps: float) -> list[Found]:
        tried = attack("paper-recovery", constraint="jacobian", steps=steps)
        return search(under(Switch.SKETCH_PROJECTION, self.some_text), tried, eps, answer=True)

    def top(self, group: Group) -> float:
        """The largest budget of the group's task."""
        return self.suite.tasks[group.task.name].budgets[-1]

    def low(self, group: Group) -> float:
        """The smallest budget of the group's task."""
        return self.suite.tasks[group.task.name].budgets[0]

    def middle(self, group: Group) -> float:
        """The middle budget of the group's task."""
        budgets = self.suite.tasks[group.task.name].budgets
        return budgets[len(budgets) // 2]

    def _task(self, kind: type[Readout]) -> Task:  # pyright: ignore[reportInvalidTypeForm]
        for name, settings in self.suite.tasks.items():
            task = build(TASKS.get(name), getattr(settings, "settings", {}), f"task {name}")
            if isinstance(task.readout, kind):
                return task
        raise Unavailable(f"the suite {self.suite.name} has no task that is read by {_READ[kind]}")

    def _group(self, task: Task, options: Mapping[str, Any], examples: int, most: int) -> Group:
        tried = spread(task.examples("test"), examples)
        named = resolve_defense("sae-clamp", dict(options))
        reference = TaskReference(self.subject, task, tried)
        group = make_group(self.subject, task, named, self.suite.tasks[task.name], self._constants(task), reference)
        if not group.suppressed.any():
            raise Unavailable(f"the clamp suppresses nothing of {task.name}")
        return attacked(group, most)

    def _constants(self, task: Task) -> Frozen:
        """The suite's, or what the pairs need of them: a steering ceiling takes minutes and is not used here."""
        settings = self.suite.tasks[task.name]
        if settings.frozen is not None and settings.frozen.weights_sha == self.subject.weights_sha:
            return settings.frozen
        fit = task.examples("fit")
        norms = residual_norms(self.subject, task, fit)
        names = {b: str(Site(b) if b < self.subject.n_layers else Site(b - 1, "resid_post")) for b in norms}
        return Frozen(
            weights_sha=self.subject.weights_sha,
            residual_norms={names[b]: norm for b, norm in norms.items()},
            embedding_norm=embedding_norm(self.subject, task, fit),
            ceiling=settings.budgets[-1],
            tau=TOLERANCE,
        )


_READ: Mapping[Any, str] = {TokenLogits: "its choices", Continuation: "what the model writes"}


def attacked(group: Group, most: int) -> Group:
    """The group with at most so many suppressed examples to attack."""
    first = group.suppressed.cumsum(0) <= most
    return replace(group, eligible=group.suppressed & first)


def under(switch: Switch, group: Group) -> Group:
    """The group with one switch on."""
    return replace(group, protocol=only(switch))


def packs(group: Group) -> list[Pack]:
    """The suppressed examples."""
    chosen = [e for e, hit in zip(group.examples, group.suppressed.tolist(), strict=True) if hit]
    return make_packs(group.subject, group.task, chosen, ROWS)


def search(group: Group, attack: Attack, eps: float, *, answer: bool = False) -> list[Found]:
    """Perturbations that an attack finds at one budget, pack by pack.

    Args:
        answer: the forced answer's positions are perturbed too, not only the prompt's.
    """
    found = []
    for pack in packs(group):
        target = aim(group, attack, pack)
        if answer:
            target = with_answer(group, target)
        problem = make_problem(group, attack, [eps], SEED, target, PackSize(ROWS))
        delta = problem.restore(attack.run(problem).delta.detach())
        found.append(Found(target, delta.view(len(pack), attack.restarts, *delta.shape[1:])[:, 0]))
    return found


def with_answer(group: Group, target: Aim) -> Aim:
    """The aim widened to every position from the first perturbed one on."""
    writes = replace(target.writes, width=target.pack.length - target.writes.start)
    return target._replace(writes=writes, unit=group.scale.unit(writes))


def measured(group: Group, found: list[Found]) -> list[Row]:
    """The rows of perturbations, re-measured under the group's protocol."""
    rows: list[Row] = []
    for target, delta in found:
        part = remeasure(group, target, delta, 1, PackSize(ROWS))
        rows += [{**row, "budget_eps": 0.0} for row in part]
    return first_row_speaks(group.task, rows, group.protocol)


def attack(name: str, **options: Any) -> Attack:
    """A registered attack with settings."""
    return resolve_attack(name, options)


def setting(group: Group, what: str, eps: float) -> str:
    """A pair's setting in words."""
    return f"{group.task.name}, {what}, eps {eps:g}"
