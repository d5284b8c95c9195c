"""What a run will cost: counted from its plan, and timed by a probe.

The time is that of searches which never stop before their last step, over the examples that the defense suppressed of a
few. In it: fits, classification, constants that have to be measured, attacks, controls, and every clean re-measurement.
Not in it: second opinions about searches that failed, more than one place of attack, what a constraint costs, and
loading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from benchmark.contracts.attack import Attack
from benchmark.model.pack import encode
from benchmark.registry import threat
from benchmark.run.bill import CONSTANTS, FITS, Bill, kind_of, peak_mb
from benchmark.run.constants import stale
from benchmark.run.freeze import steering
from benchmark.run.groups import DEV
from benchmark.run.plan import FRESH, Cell, suite_attacks
from benchmark.run.prepare import Prepared
from benchmark.run.probe import Block, Probe
from benchmark.run.rehearsal import Asked, Pace


@dataclass
class Estimate(Bill):
    """What a run will cost."""

    cells: int = 0
    probe_seconds: float = 0.0
    left_out: list[str] = field(default_factory=list)
    """What the probe could not try."""
    untimed: set[tuple[str, str]] = field(default_factory=set)
    """Tasks and kinds of work of which some is not in ``seconds``."""

    def describe(self) -> dict[str, Any]:
        """As JSON values, for run.json and ``bench plan --json``."""
        known = super().describe()
        for task, kind in self.untimed:
            known["seconds"][task][kind] = None
        more = {"probe_seconds": round(self.probe_seconds, 2), "left_out": self.left_out}
        return {"cells": self.cells, **known, **more}


def estimate(prepared: Prepared, seen: Probe, cells: Sequence[Cell] | None = None) -> Estimate:
    """What the cells (all of the plan's) and all that comes before them will cost."""
    todo = prepared.plan.cells if cells is None else cells
    found = Estimate(cells=len(todo), probe_seconds=seen.seconds, left_out=list(seen.notes))
    held = 0.0
    for name in dict.fromkeys(cell.task for cell in todo):
        costs = _Task(prepared, name, seen)
        mine = [cell for cell in todo if cell.task == name]
        found.add(name, CONSTANTS, costs.constants())
        for defense in dict.fromkeys(cell.defense for cell in mine):
            fit = costs.fit(defense)
            found.add(name, FITS, fit or 0.0)
            if fit is None:
                found.untimed.add((name, FITS))
        for cell in mine:
            found.add(name, kind_of(cell), costs.cell(cell))
            found.rows += costs.examples(cell) * len(cell.budgets)
            asked = costs.asked(cell)
            attacked = round(costs.attacked(cell))
            found.forwards += round(attacked * (asked.slopes + asked.forwards + len(cell.budgets)))
            found.backwards += round(attacked * asked.slopes)
            held = max(held, costs.held(cell))
    found.memory_mb = peak_mb() + held / 2**20
    return found


class _Task:
    """The costs of a task, in seconds."""

    def __init__(self, prepared: Prepared, name: str, seen: Probe) -> None:
        self.prepared, self.seen, self.name = prepared, seen, name
        self.view, self.probe = prepared.plan.tasks[name], seen.tasks[name]
        self.test = self.view.examples("test")
        lengths = Counter(len(m.encoded.tokens) for m in encode(prepared.subject, self.view, self.test))
        self.lengths = [count / len(self.test) for count in lengths.values()]

    def examples(self, cell: Cell) -> int:
        return len(self.test) if cell.split == "test" else min(FRESH, len(self.test))

    def attacked(self, cell: Cell) -> float:
        """Examples that the defense is thought to suppress."""
        if self.prepared.plan.suite.controls.attack is not None and not self._searched(cell.defense):
            return 0.0  # it is only classified, and should suppress next to nothing
        return self.examples(cell) * self._suppressed(cell.defense)

    def _searched(self, defense: str) -> bool:
        return any(c.attack.searches for c in self.prepared.plan.cells if c.defense == defense)

    def _suppressed(self, defense: str) -> float:
        """As on the few; where it was not tried, as on the other tasks; and all where nothing is known."""
        share = self._known("suppressed", defense)
        return 1.0 if share is None else share

    def asked(self, cell: Cell) -> Asked:
        return self._known("asked", cell.attack) or Asked(0, 0, 0, 0)

    def _known(self, what: str, key: Any) -> Any:
        """As it was seen on this task; else as on another one; None: there was no time for it at all."""
        seen = (getattr(probe, what) for probe in (self.probe, *self.seen.tasks.values()))
        return next((found[key] for found in seen if key in found), None)

    def held(self, cell: Cell) -> float:
        """Bytes of a whole pack with its gradients."""
        pace = self._known("pace", cell.attack.threat_model)
        rows = min(self.prepared.rows, self.attacked(cell) * self.asked(cell).rows)
        return pace.held * rows if pace and self.asked(cell).slopes else 0.0

    def cell(self, cell: Cell) -> float:
        attacked, levels = self.attacked(cell), len(cell.budgets)
        packs = self._packs(attacked, levels * cell.attack.restarts, self.lengths)
        return self._search(cell.attack, self.asked(cell), attacked, levels) + self._measured(
            cell.attack.threat_model, attacked * levels, packs
        )

    def _packs(self, attacked: float, rows: int, lengths: Sequence[float]) -> int:
        """As ``run_cell`` makes them: of one length, and not too large; ``lengths``: the share that is of each."""
        size = max(1, 4 * self.prepared.rows // rows)
        return sum(ceil(attacked * share / size) for share in lengths) if attacked else 0

    def _search(self, attack: Attack, asked: Asked, attacked: float, levels: int) -> float:
        """Vectors are searched for in packs of all lengths at once, tokens in packs of one."""
        pace: Pace | None = self._known("pace", attack.threat_model)
        lengths = self.lengths if threat(attack.threat_model).unit == "tokens" else [1.0]
        packs = self._packs(attacked, levels * attack.restarts, lengths)
        if pace is None or not packs:
            return 0.0
        chunks = ceil(attacked / packs * asked.rows / self.prepared.rows)
        rows = asked.slopes + pace.forward * asked.forwards
        return packs * chunks * asked.passes * pace.each + attacked * rows * pace.row

    def _measured(self, threat_model: str, rows: float, packs: int) -> float:
        others = (block for probe in (self.probe, *self.seen.tasks.values()) for block in probe.measured.values())
        block = self._known("measured", threat_model) or next(others, None)
        return 0.0 if block is None or not rows else self._grown(block, packs, rows)

    def _grown(self, block: Block, packs: float, times: float) -> float:
        """A block that was done once, done ``times`` in ``packs``."""
        return packs * block.seconds + self.seen.token * block.work * max(times - packs, 0.0)

    def fit(self, defense: str) -> float | None:
        """None: there was no time to try it."""
        block = self._fit_block(defense)
        return None if block is None else self._grown(block, 1, self._growth())

    def _fit_block(self, defense: str) -> Block | None:
        """As it was tried here; else as on another task, in proportion to what classification costs on both."""
        if defense in self.probe.fits:
            return self.probe.fits[defense]
        mine = self.probe.classified
        for other in self.seen.tasks.values():
            if defense in other.fits:
                block, theirs = other.fits[defense], other.classified
                share = mine.seconds / theirs.seconds if mine and theirs else 1.0
                return Block(block.seconds * share, round(block.work * share))
        return None

    def _growth(self) -> float:
        """How many times as many examples a fit and a classification see as in the probe."""
        view, sample = self.view, self.probe.sample
        sets = [len(some) for split in ("fit", "test") for some in (view.examples(split), view.retain(split))]
        sets.append(min(DEV, len(view.examples("dev"))))
        return sum(sets) / max(sum(min(sample, size) for size in sets), 1)

    def constants(self) -> float:
        """The undefended model's references, and what has to be measured because the suite's constants do not serve."""
        done = self._grown(self.probe.classified, 1, self._growth()) if self.probe.classified else 0.0
        p = self.prepared
        known = self.name in p.known or stale(p.subject, p.plan.suite.tasks[self.name].frozen) is None
        return done + (0.0 if known else self._steered())

    def _steered(self) -> float:
        suite = self.prepared.plan.suite
        settings, dev = suite.tasks[self.name], len(self.view.examples("dev"))
        total = 0.0
        for name, attack in steering(self.view, settings, suite_attacks(suite)).items():
            for levels, examples in ((len(threat(name).ceilings), dev), (len(settings.budgets[name]), len(self.test))):
                asked, known = self._one_budget(attack)
                total += self._search(attack, asked * levels, examples, levels) if known else 0.0
        return total

    def _one_budget(self, attack: Attack) -> tuple[Asked, bool]:
        """What an attack asks for a single budget, whatever its goal."""
        for cell in self.prepared.plan.cells:
            if cell.task == self.name and replace(cell.attack, goal=attack.goal) == attack:
                asked = self.asked(cell)
                return Asked(*(value / len(cell.budgets) for value in asked)), bool(asked.slopes)
        return Asked(0, 0, 0, 0), False
