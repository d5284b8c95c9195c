"""The plan of a run: which cells there are, in which order, and the key of each.

A cell is (task, defense, attack with its settings, seed) with a whole grid of budgets. Its key hashes everything that
changes its results and nothing else: not the pack size, the device or the display.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmark.contracts.attack import Attack
from benchmark.contracts.example import Example
from benchmark.contracts.protocol import Protocol
from benchmark.errors import UsageError
from benchmark.registry import threat
from benchmark.run.task_view import TaskView
from benchmark.spec import Named, code_hash, fingerprint, resolve_attack, settings, sha
from benchmark.suite import Suite

SEMANTICS = 1
"""Goes up when the same cell would give other results."""

FRESH = 40
"""Examples of a task that are made for every defense that is evaluated."""

SANITY_FACTOR = 10.0
"""An attack also runs at this multiple of its largest budget: it must succeed there, or it is not a test."""


@dataclass(frozen=True)
class Cell:
    """One unit of work and of resumption; one Parquet file."""

    key: str
    task: str
    defense: str
    attack: Attack
    budgets: tuple[float, ...]
    """Ascending, in the threat model's unit."""
    sanity: frozenset[float] = frozenset()
    """Those that only serve sanity flags."""
    seed: int = 0
    matched: str | None = None
    """Key of the wrong-target cell that tells whether a recovery is selective."""
    split: Literal["test", "fresh"] = "test"
    """Whose examples it attacks; fresh ones are compared with ``test`` and enter no score."""

    def describe(self) -> dict[str, Any]:
        """The cell as JSON values, for plan.json."""
        attack = self.attack
        return {
            "key": self.key,
            "task": self.task,
            "defense": self.defense,
            **access(attack),
            "goal": attack.goal,
            "role": "control" if attack.is_control else "attack",
            "searches": attack.searches,
            "settings": settings(attack),
            "budgets": list(self.budgets),
            "sanity_budgets": sorted(self.sanity),
            "seed": self.seed,
            "matched": self.matched,
            "split": self.split,
            "controls": []
            if attack.is_control or self.split != "test"
            else [{**access(c), "goal": c.goal} for c in attack.controls()],
            "file": f"cells/{self.key}.parquet",
        }


def access(attack: Attack) -> dict[str, str]:
    """What identifies an attack of a suite, for who checks that all of them ran."""
    return {"attack": attack.title, "threat_model": attack.threat_model, "constraint": attack.constraint}


@dataclass(frozen=True)
class Plan:
    """All cells of a run, controls before the attacks that refer to them."""

    suite: Suite
    defenses: Mapping[str, Named]
    tasks: Mapping[str, TaskView]
    cells: tuple[Cell, ...]
    identity: str = field(default="")
    """Hash of the cells' keys: a run directory belongs to exactly one."""
    protocol: Protocol = field(default_factory=Protocol)

    def describe(self) -> dict[str, Any]:
        """The plan as JSON values, for plan.json."""
        return {
            "identity": self.identity,
            "suite": self.suite.name,
            "protocol": self.protocol.name,
            "cells": [c.describe() for c in self.cells],
        }


def make_plan(
    suite: Suite,
    tasks: Mapping[str, TaskView],
    defenses: Sequence[Named],
    control_defenses: Sequence[Named],
    *,
    attacks: Sequence[Attack],
    weights_sha: str,
    dtype: str,
    seed: int,
    protocol: Protocol | None = None,
    attribution: bool = False,
) -> Plan:
    """Cross defenses, tasks and attacks, with the controls that every attack needs.

    Control defenses are only classified (how much do they suppress by themselves), not attacked.

    Raises:
        UsageError: two defenses or two attacks of one plan cannot be told apart, or no attack applies to any task.
    """
    protocol = protocol or Protocol()
    everyone = {d.name: d for d in (*defenses, *control_defenses)}
    if len(everyone) < len(defenses) + len(control_defenses):
        raise UsageError("two defenses of this run have the same name; give one another `name` in its spec")
    classify = [(resolve_attack(suite.controls.attack), None)] if suite.controls.attack else []
    applying = _applying(suite, tasks, attacks)
    cells: list[Cell] = []
    for task in tasks:
        for named in defenses:
            cells += _cells(suite, task, named, _with_controls(applying[task]))
            if fresh_examples(tasks[task], named, seed):
                cells += [replace(c, key=f"{c.key}/fresh", split="fresh") for c in _main(cells, task, named)]
        for named in control_defenses:
            cells += _cells(suite, task, named, classify)
    saes = {site: fingerprint(source) for site, source in suite.saes.items()}
    common = {
        "semantics": SEMANTICS,
        "suite": suite.hash,
        "weights": [weights_sha, saes],
        "dtype": dtype,
        "seed": seed,
        "protocol": protocol.name,
    }
    common |= {"attribution": True} if attribution else {}
    keyed = _with_keys(cells, everyone, tasks, common, seed)
    _refuse_twins(keyed)
    return Plan(suite, everyone, tasks, tuple(keyed), sha([c.key for c in keyed]), protocol)


def _main(cells: Sequence[Cell], task: str, named: Named) -> list[Cell]:
    """The cell of the first attack that searches without a constraint under a primary threat model, if there is one."""
    found = [
        replace(cell, matched=None)
        for cell in cells
        if (cell.task, cell.defense, cell.split) == (task, named.name, "test")
        and (cell.attack.goal, cell.attack.constraint) == ("behavior", "none")
        and cell.attack.searches
        and not cell.attack.is_control
        and threat(cell.attack.threat_model).role == "primary"
    ]
    return found[:1]


def fresh_examples(task: TaskView, named: Named, seed: int) -> Sequence[Example]:
    """Examples made for one defense in runs of one seed; the defense's own code is in their key, so that it cannot hold
    them."""
    return task.fresh(sha([seed, task.name, named.spec]), FRESH)


def _applying(suite: Suite, tasks: Mapping[str, TaskView], attacks: Sequence[Attack]) -> dict[str, list[Attack]]:
    """The attacks that a task can meet: with access that it has, and budgets that the suite gives it."""
    found = {name: [a for a in attacks if _meets(suite, task, a)] for name, task in tasks.items()}
    if attacks and not any(found.values()):
        wanted = ", ".join(f"{a.title} ({a.threat_model})" for a in attacks)
        raise UsageError(
            f"no attack applies: {wanted} on {', '.join(tasks)}, where the suite {suite.name} has no budgets for them; "
            "choose other attacks or tasks, or a suite with budgets (see `bench plan`)"
        )
    return found


def _meets(suite: Suite, task: TaskView, attack: Attack) -> bool:
    return threat(attack.threat_model).applies(task) is None and bool(_budgets(suite, task.name, attack)[0])


def _with_controls(attacks: Sequence[Attack]) -> Iterator[tuple[Attack, Attack | None]]:
    """Every attack after itself aimed at the wrong target; then the controls of all of them, once each."""
    controls: dict[Attack, None] = {}
    for attack in attacks:
        if attack.is_control:
            controls[attack] = None
            continue
        wrong = replace(attack, goal="wrong")
        yield wrong, None
        yield attack, wrong
        controls |= dict.fromkeys(attack.controls())
    for control in controls:
        yield control, None


def _cells(suite: Suite, task: str, named: Named, attacks: Any) -> list[Cell]:
    cells: list[Cell] = []
    for attack, wrong in attacks:
        budgets, sanity = _budgets(suite, task, attack)
        matched = next((c.key for c in cells if c.attack == wrong), None)
        cells.append(Cell(f"{task}/{named.name}/{attack!r}", task, named.name, attack, budgets, sanity, 0, matched))
    return cells


def _budgets(suite: Suite, task: str, attack: Attack) -> tuple[tuple[float, ...], frozenset[float]]:
    """All budgets, and which of them are for sanity only; none where the suite does not give the threat model any."""
    grid = tuple(map(float, attack.budgets(suite.tasks[task].budgets.get(attack.threat_model, ()))))
    # controls and constrained attacks need not succeed without bounds
    if attack.is_control or attack.constraint != "none" or not threat(attack.threat_model).unbounded or not grid:
        return grid, frozenset()
    beyond = SANITY_FACTOR * grid[-1]
    return (*grid, beyond), frozenset({beyond})


def _with_keys(
    cells: Sequence[Cell],
    defenses: Mapping[str, Named],
    tasks: Mapping[str, TaskView],
    common: Mapping[str, Any],
    seed: int,
) -> list[Cell]:
    """Replace provisional names by keys; ``matched`` follows."""
    content = {
        name: [name, task.kind.__name__, code_hash(task.kind), task.version, _content(task)]
        for name, task in tasks.items()
    }
    keys: dict[str, str] = {}
    for cell in cells:
        what = {
            **common,
            "task": content[cell.task],
            "defense": defenses[cell.defense].spec,
            "name": cell.defense,
            "attack": [cell.attack.name, settings(cell.attack)],
            "budgets": list(cell.budgets),
        }
        if cell.split == "fresh":
            made = fresh_examples(tasks[cell.task], defenses[cell.defense], seed)
            what |= {"split": cell.split, "fresh": [e.content_hash for e in made]}
        keys[cell.key] = sha(what)
    return [replace(c, key=keys[c.key], seed=seed, matched=keys[c.matched] if c.matched else None) for c in cells]


def _content(task: TaskView) -> list[str]:
    return [e.content_hash for e in task.examples("test")]


def _refuse_twins(cells: Sequence[Cell]) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.key in seen:
            raise UsageError(f"the plan has the same cell twice: {cell.task} x {cell.defense} x {cell.attack!r}")
        seen.add(cell.key)


def suite_attacks(suite: Suite, names: Sequence[str] | None = None) -> list[Attack]:
    """The suite's attacks, or those with the given names; an attack that the suite lacks runs with its defaults."""
    listed = [(str(entry["attack"]), {k: v for k, v in entry.items() if k != "attack"}) for entry in suite.attacks]
    if names is None:
        return [resolve_attack(name, options) for name, options in listed]
    chosen: list[Attack] = []
    for name in names:
        matching = [resolve_attack(n, options) for n, options in listed if n == name]
        chosen += matching or [resolve_attack(name)]
    return list(dict.fromkeys(chosen))
