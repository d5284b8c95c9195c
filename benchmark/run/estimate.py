"""What a run will cost: counted from its plan, and timed by a probe; and what it took, in the same words.

The time is that of searches which never stop before their last step, over the examples that the defense suppressed of a
few. In it: fits, classification, constants that have to be measured, attacks, controls, and every clean re-measurement.
Not in it: second opinions about searches that failed, more than one place of attack, what a constraint costs, and
loading.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import torch

from benchmark.contracts.attack import Attack
from benchmark.model.pack import encode
from benchmark.registry import threat
from benchmark.run.freeze import steering
from benchmark.run.groups import DEV
from benchmark.run.plan import FRESH, Cell, suite_attacks
from benchmark.run.prepare import Prepared
from benchmark.run.probe import Block, Probe, TaskProbe
from benchmark.run.rehearsal import Asked, Pace

CONSTANTS, FITS, ATTACKS, CONTROLS = "constants", "fits", "attacks", "controls"
KINDS = (CONSTANTS, FITS, ATTACKS, CONTROLS)
"""What a run spends its time on, by task."""


def kind_of(cell: Cell) -> str:
    """What the time of a cell is called."""
    return CONTROLS if cell.attack.is_control else ATTACKS


@dataclass
class Bill:
    """Seconds by task and kind, and what they bought: of an estimate, or of what was run."""

    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: int = 0
    forwards: int = 0
    backwards: int = 0
    """Rows of passes: of an estimate the most that searches can ask."""
    memory_mb: float = 0.0

    def add(self, task: str, kind: str, seconds: float) -> None:
        mine = self.seconds.setdefault(task, dict.fromkeys(KINDS, 0.0))
        mine[kind] += seconds

    @property
    def total(self) -> float:
        return sum(sum(kinds.values()) for kinds in self.seconds.values())

    def describe(self) -> dict[str, Any]:
        """As JSON values, for run.json."""
        return {
            "total_seconds": round(self.total, 2),
            "seconds": {t: {k: round(s, 2) for k, s in kinds.items()} for t, kinds in self.seconds.items()},
            "rows": self.rows,
            "forwards": self.forwards,
            "backwards": self.backwards,
            "memory_mb": round(self.memory_mb),
        }


@dataclass
class Estimate(Bill):
    """What a run will cost."""

    cells: int = 0
    probe_seconds: float = 0.0
    left_out: list[str] = field(default_factory=list)
    """What the probe could not try."""

    def describe(self) -> dict[str, Any]:
        more = {"probe_seconds": round(self.probe_seconds, 2), "left_out": self.left_out}
        return {"cells": self.cells, **super().describe(), **more}


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
            found.add(name, FITS, costs.fit(defense))
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
        shares = [t.suppressed[defense] for t in (self.probe, *self.seen.tasks.values()) if defense in t.suppressed]
        return shares[0] if shares else 1.0

    def asked(self, cell: Cell) -> Asked:
        return self.probe.asked.get(cell.attack, Asked(0, 0, 0, 0))

    def held(self, cell: Cell) -> float:
        """Bytes of a whole pack with its gradients."""
        pace = self.probe.pace.get(cell.attack.threat_model)
        rows = min(self.prepared.rows, self.attacked(cell) * self.asked(cell).rows)
        return pace.held * rows if pace and self.asked(cell).slopes else 0.0

    def cell(self, cell: Cell) -> float:
        attacked, levels = self.attacked(cell), len(cell.budgets)
        packs = self._packs(attacked, levels * cell.attack.restarts)
        return self._search(cell.attack, self.asked(cell), attacked, packs) + self._measured(
            cell.attack.threat_model, attacked * levels, packs
        )

    def _packs(self, attacked: float, rows: int) -> int:
        """As ``run_cell`` makes them: of one length, and not too large."""
        size = max(1, 4 * self.prepared.rows // rows)
        return sum(ceil(attacked * share / size) for share in self.lengths) if attacked else 0

    def _search(self, attack: Attack, asked: Asked, attacked: float, packs: int) -> float:
        pace = self._pace(attack.threat_model)
        if pace is None or not packs:
            return 0.0
        chunks = ceil(attacked / packs * asked.rows / self.prepared.rows)
        rows = asked.slopes + pace.forward * asked.forwards
        return packs * chunks * asked.passes * pace.each + attacked * rows * pace.row

    def _pace(self, threat_model: str) -> Pace | None:
        return next((t.pace[threat_model] for t in (self.probe, *self.seen.tasks.values()) if threat_model in t.pace), None)

    def _measured(self, threat_model: str, rows: float, packs: int) -> float:
        known = self.probe.measured
        block = known.get(threat_model) or next(iter(known.values()), None)
        return 0.0 if block is None or not rows else self._grown(block, packs, rows)

    def _grown(self, block: Block, packs: float, times: float) -> float:
        """A block that was done once, done ``times`` in ``packs``."""
        return packs * block.seconds + self.seen.token * block.work * max(times - packs, 0.0)

    def fit(self, defense: str) -> float:
        block = self._fit_block(defense)
        return 0.0 if block is None else self._grown(block, 1, self._growth())

    def _fit_block(self, defense: str) -> Block | None:
        """As it was tried here; else as on another task, in proportion to what classification costs on both."""
        if defense in self.probe.fits:
            return self.probe.fits[defense]
        mine = self.probe.classified
        for other in self.seen.tasks.values():
            if defense in other.fits and other.classified and mine:
                block, share = other.fits[defense], mine.seconds / other.classified.seconds
                return Block(block.seconds * share, round(block.work * mine.work / max(other.classified.work, 1)))
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
        return done + (self._steered() if self.prepared.stale(self.name) else 0.0)

    def _steered(self) -> float:
        suite = self.prepared.plan.suite
        settings, dev = suite.tasks[self.name], len(self.view.examples("dev"))
        total = 0.0
        for name, attack in steering(self.view, settings, suite_attacks(suite)).items():
            for levels, examples in ((len(threat(name).ceilings), dev), (len(settings.budgets[name]), len(self.test))):
                asked, known = self._one_budget(attack)
                total += self._search(attack, asked * levels, examples, self._packs(examples, levels)) if known else 0.0
        return total

    def _one_budget(self, attack: Attack) -> tuple[Asked, bool]:
        """What an attack asks for a single budget, whatever its goal."""
        for cell in self.prepared.plan.cells:
            if cell.task == self.name and replace(cell.attack, goal=attack.goal) == attack:
                asked = self.asked(cell)
                return Asked(*(value / len(cell.budgets) for value in asked)), bool(asked.slopes)
        return Asked(0, 0, 0, 0), False


def peak_mb(device: torch.device | None = None) -> float:
    """The most memory that the process has held so far: on the device, where it has memory of its own."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def compared(expected: Mapping[str, Any], took: Mapping[str, Any]) -> str:
    """The last line of a run."""
    return f"estimated {spoken(expected['total_seconds'])}, took {spoken(took['total_seconds'])}"


def spoken(seconds: float) -> str:
    """A time as one says it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
