"""Ten seconds of the evaluation itself: its own examples, fits, passes and searches, each as small as it can be.

On a model of which ten seconds show nothing, searches are given so many of its passes instead. One example of each task
is searched for two steps under every threat model, and every defense is fitted on a few. How many steps an attack takes
at most is counted without the model (``rehearse``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch

from benchmark.contracts.attack import Attack
from benchmark.errors import BenchError
from benchmark.measure.group import Group
from benchmark.measure.judging import read_pack
from benchmark.model.pack import make_packs
from benchmark.model.streams import embedding_norm, residual_norms
from benchmark.registry import threat
from benchmark.run.card import card
from benchmark.run.cell import run_cell
from benchmark.run.constants import stale
from benchmark.run.custody import Custody
from benchmark.run.freeze import all_attacked, site_at
from benchmark.run.groups import Undefended, make_group, scale_of
from benchmark.run.meter import Late, Meter, metered, spent
from benchmark.run.plan import Cell
from benchmark.run.prepare import Prepared
from benchmark.run.rehearsal import Asked, Pace, pace, rehearse
from benchmark.run.scrutiny import scrutiny
from benchmark.run.task_view import FEW, TaskView, few
from benchmark.search.pack_size import PackSize
from benchmark.suite import Frozen

SECONDS = 10.0
"""That a probe takes, beside the step in which they end ..."""
WORTH = 12
"""... or, for the searches, so many times what its first passes took, if that is longer."""
MANY = 32
"""Copies of an example in the larger of two passes, by which a token's time is known."""
SEARCHES = 0.6
"""Share of it until which searches are timed; the rest is for fits."""


class Block(NamedTuple):
    """What a piece of work costs that grows with its examples."""

    seconds: float
    work: int
    """Layers times tokens."""


@dataclass
class TaskProbe:
    """What was seen of a task; what there was no time for is missing."""

    classified: Block | None = None
    """The undefended model's answers to a few examples."""
    pace: dict[str, Pace] = field(default_factory=dict)
    """By threat model."""
    asked: dict[Attack, Asked] = field(default_factory=dict)
    """Of an example at all its budgets."""
    measured: dict[str, Block] = field(default_factory=dict)
    """By threat model: one example at one budget, on a clean pass."""
    sample: int = FEW
    """Examples of each split and retain set that ``fits`` are about."""
    fits: dict[str, Block] = field(default_factory=dict)
    """By defense: learning, classification and card."""
    suppressed: dict[str, float] = field(default_factory=dict)
    """By defense: share of the ``test`` examples among them that it suppresses."""


@dataclass
class Probe:
    """What a few seconds showed."""

    token: float = 0.0
    """Seconds that a layer takes for one more token."""
    tasks: dict[str, TaskProbe] = field(default_factory=dict)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """What could not be tried, and why."""


def probe(prepared: Prepared, seconds: float = SECONDS) -> Probe:
    """Try a little of everything that the run will do: the searches of every task, and then the fits. Nothing of it is
    kept."""
    began, found = time.perf_counter(), Probe()
    with metered((prepared.subject, prepared.learner)) as meter:
        trials = [_Trial(prepared, name, found, meter) for name in prepared.plan.tasks]
        trials[0].token()
        end = began + max(SEARCHES * seconds, WORTH * (time.perf_counter() - began))
        for number, trial in enumerate(trials):
            now = time.perf_counter()
            meter.until = now + (end - now) / (len(trials) - number)
            trial.searches()
        meter.until = max(began + seconds, time.perf_counter() + (1 - SEARCHES) * seconds)
        for place in range(max(len(trial.defenses) for trial in trials)):
            for trial in trials:
                trial.fit(place)
    found.seconds = time.perf_counter() - began
    return found


class _Trial:
    """The probe of a task."""

    def __init__(self, prepared: Prepared, name: str, whole: Probe, meter: Meter) -> None:
        self.prepared, self.name, self.whole, self.meter = prepared, name, whole, meter
        self.found = whole.tasks.setdefault(name, TaskProbe())
        self.cells = [c for c in prepared.plan.cells if c.task == name and c.split == "test"]
        self.defenses = list(dict.fromkeys(c.defense for c in self.cells))

    def token(self) -> None:
        """What one more token costs."""
        with self._noted("its passes could not be timed"):
            self.whole.token = self._token(self._view(test=2))

    def searches(self) -> None:
        """The steps of a search; the model is not defended."""
        with self._noted("its searches could not all be timed"):
            task = self._view(test=2)
            frozen, settings = self._constants(task), self.prepared.plan.suite.tasks[self.name]
            scale, floor = scale_of(frozen), frozen.floor
            with spent(self.meter) as cost:
                group = all_attacked(self.prepared.subject, task, settings, task.examples("test"), scale, floor)
            self.found.classified = Block(cost.seconds, cost.work)
            group = replace(group, eligible=torch.ones_like(group.eligible))
            for attack, cell in {cell.attack: cell for cell in self.cells}.items():
                self._search(group, attack, cell)

    def fit(self, place: int) -> None:
        """What the defense at a place of the plan costs before it is attacked."""
        if place >= len(self.defenses) or time.perf_counter() > self.meter.until:
            return
        with self._noted(f"{self.defenses[place]} could not be fitted on {self.found.sample} examples"):
            self._fit(self._undefended, self.defenses[place])

    def _view(self, test: int) -> TaskView:
        task, self.found.sample = few(self.prepared.subject, self.prepared.plan.tasks[self.name], test=test)
        return task

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        try:
            yield
        except Late:
            self.whole.notes.append(f"{self.name}: {what} in the time")
        except (Exception, SystemExit) as error:  # the run will meet it, and say it where it belongs
            said = str(error) if isinstance(error, BenchError) else repr(error)
            self.whole.notes.append(f"{self.name}: {what} ({said[:200]})")

    def _token(self, task: TaskView) -> float:
        """From a pass over one, and one over many copies of an example."""
        subject, example, costs = self.prepared.subject, task.examples("test")[0], []
        for rows in (1, 1, MANY):  # the first one warms up
            copies = [replace(example, id=str(i)) for i in range(rows)]
            pack = make_packs(subject, task, copies, rows)[0]
            with spent(self.meter) as cost:
                read_pack(subject, pack, {})
            costs.append(cost)
        _, few, many = costs
        more = many.seconds - few.seconds
        # on a machine with other work the larger pass may be the faster one
        return more / (many.work - few.work) if more > 0 else many.seconds / many.work

    def _constants(self, task: TaskView) -> Frozen:
        """The suite's, or what stands in for them until they are measured."""
        p = self.prepared
        known = p.plan.suite.tasks[self.name].frozen
        if known is not None and stale(p.subject, known) is None:
            return known
        fit = task.examples("fit")
        norms = {str(site_at(p.subject, b)): n for b, n in residual_norms(p.subject, task, fit).items()}
        unit = embedding_norm(p.subject, task, fit)
        return Frozen(weights_sha="", residual_norms=norms, embedding_norm=unit, ceilings={}, tau=1.0)

    @cached_property
    def _undefended(self) -> Undefended:
        p, task = self.prepared, self._view(test=FEW)
        return Undefended(
            p.subject,
            task,
            p.plan.suite.tasks[self.name],
            self._constants(task),
            p.plan.protocol,
            seed=p.request.seed,
            learner=p.learner,
            custody=Custody([p.subject, p.learner], [task]),
        )

    def _fit(self, undefended: Undefended, name: str) -> None:
        with spent(self.meter) as cost:
            group = make_group(undefended, self.prepared.plan.defenses[name])
            card(group, undefended.retention)
            if any(not c.attack.is_control for c in self.cells if c.defense == name):
                scrutiny(group, undefended)
        self.found.fits[name] = Block(cost.seconds, cost.work)
        self.found.suppressed[name] = (int(group.suppressed.sum()) + 1) / (len(group.examples) + 2)

    def _search(self, group: Group, attack: Attack, cell: Cell) -> None:
        model, known, rows = threat(attack.threat_model), self.found, PackSize(self.prepared.rows)
        if model.applies(group.task, group) is not None:
            return
        pack = make_packs(group.subject, group.task, group.examples[:1], 1)[0]
        free = replace(attack, constraint="none", goal="behavior")  # there is no defense whose latents were held
        problem = model.problem(group, free.terms(0), cell.budgets, pack, rows)
        known.asked[attack] = rehearse(problem, free, len(cell.budgets))
        if attack.searches and attack.threat_model not in known.pace:
            known.pace[attack.threat_model] = pace(problem, rows.rows)
        if not attack.searches and attack.threat_model not in known.measured:
            first = torch.arange(len(group.examples)) == 0
            with spent(self.meter) as cost:
                run_cell(replace(group, eligible=first), replace(cell, attack=free), rows)
            levels = len(cell.budgets)
            known.measured[attack.threat_model] = Block(cost.seconds / levels, cost.work // levels)
