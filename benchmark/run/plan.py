"""The plan of a run: which cells there are, in which order, and the key of each.

A cell is (task, defense, attack with its settings, seed) with a whole grid of budgets. Its key hashes everything that
changes its results and nothing else: not the pack size, the device or the display.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmark.contracts import Attack, Example, Task, ThreatModel
from benchmark.errors import UsageError
from benchmark.protocol import STRICT, Protocol, Switch
from benchmark.registry import ATTACKS
from benchmark.spec import Named, fingerprint, resolve_attack, settings, sha
from benchmark.suite import Suite

SEMANTICS = 1
"""Goes up when the same cell would give other results."""

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
    """Ascending eps; of token suffixes, numbers of tokens."""
    sanity: frozenset[float]
    """Those that only serve sanity flags."""
    seed: int
    matched: str | None = None
    """Key of the wrong-target cell that tells whether a recovery is selective."""

    def describe(self) -> dict[str, Any]:
        """The cell as JSON values, for plan.json."""
        attack = self.attack
        return {
            "key": self.key,
            "task": self.task,
            "defense": self.defense,
            "attack": attack.title,
            "threat_model": str(attack.threat_model),
            "constraint": attack.constraint,
            "goal": attack.goal,
            "role": "control" if attack.is_control else "attack",
            "settings": settings(attack),
            "budgets": list(self.budgets),
            "sanity_budgets": sorted(self.sanity),
            "seed": self.seed,
            "matched": self.matched,
            "file": f"cells/{self.key}.parquet",
        }


@dataclass(frozen=True)
class Plan:
    """All cells of a run, controls before the attacks that refer to them."""

    suite: Suite
    defenses: Mapping[str, Named]
    tasks: Mapping[str, Task]
    cells: tuple[Cell, ...]
    identity: str = field(default="")
    """Hash of the cells' keys: a run directory belongs to exactly one."""
    protocol: Protocol = STRICT

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
    tasks: Mapping[str, Task],
    defenses: Sequence[Named],
    control_defenses: Sequence[Named],
    *,
    attacks: Sequence[Attack],
    examples: Mapping[str, Sequence[Example]],
    weights_sha: str,
    dtype: str,
    seed: int,
    protocol: Protocol = STRICT,
    attribution: bool = False,
) -> Plan:
    """Cross defenses, tasks and attacks, with the controls that every attack needs.

    Control defenses are only classified (how much do they suppress by themselves), not attacked.

    Raises:
        UsageError: two defenses or two attacks of one plan cannot be told apart, or no attack applies to any task.
    """
    everyone = {d.name: d for d in (*defenses, *control_defenses)}
    if len(everyone) < len(defenses) + len(control_defenses):
        raise UsageError("two defenses of this run have the same name; give one another `name` in its spec")
    zero = ATTACKS.get("zero")()
    cells: list[Cell] = []
    applying = _applying(suite, tasks, attacks)
    for task in tasks:
        for named in defenses:
            cells += _cells(suite, task, named, _with_controls(applying[task]))
        for named in control_defenses:
            cells += _cells(suite, task, named, [(zero, None)])
    content = {t: [e.content_hash for e in found] for t, found in examples.items()}
    saes = {site: fingerprint(source) for site, source in suite.saes.items()}
    weights = [weights_sha, saes]
    common = {
        "semantics": SEMANTICS,
        "suite": suite.hash,
        "weights": weights,
        "dtype": dtype,
        "seed": seed,
        "protocol": protocol.name,
    }
    common |= {"attribution": True} if attribution else {}
    keyed = _with_keys(cells, everyone, tasks, content, common, seed)
    _refuse_twins(keyed)
    return Plan(suite, everyone, tasks, tuple(keyed), sha([c.key for c in keyed]), protocol)


def _applying(suite: Suite, tasks: Mapping[str, Task], attacks: Sequence[Attack]) -> dict[str, list[Attack]]:
    """The attacks that a task can meet: with access that it has, and budgets that the suite gives it."""
    found = {
        name: [a for a in attacks if a.threat_model in task.threat_models and _budgets(suite, name, a)[0]]
        for name, task in tasks.items()
    }
    if attacks and not any(found.values()):
        wanted = ", ".join(f"{a.title} ({a.threat_model})" for a in attacks)
        raise UsageError(
            f"no attack applies: {wanted} on {', '.join(tasks)}, where the suite {suite.name} has no budgets for them; "
            "choose other attacks or tasks, or a suite with budgets (see `bench plan`)"
        )
    return found


def _with_controls(attacks: Sequence[Attack]) -> Iterator[tuple[Attack, Attack | None]]:
    """Every attack after itself aimed at the wrong target; then zero budget, random directions and random suffixes."""
    controls: dict[Attack, None] = {}
    for attack in attacks:
        if attack.is_control:
            controls[attack] = None
            continue
        wrong = replace(attack, goal="wrong")
        yield wrong, None
        yield attack, wrong
        controls |= dict.fromkeys(_blind(attack))
    for control in controls:
        yield control, None


def _blind(attack: Attack) -> Iterator[Attack]:
    """What an attack must beat: no search at all, with the same access."""
    if attack.threat_model == ThreatModel.SOFT_SUFFIX:
        return
    if attack.threat_model == ThreatModel.TOKEN_SUFFIX:
        yield ATTACKS.get("random-suffix")()
    else:
        yield ATTACKS.get("random-direction")(threat_model=attack.threat_model, constraint=attack.constraint)
    yield ATTACKS.get("zero")(threat_model=attack.threat_model)


def _cells(suite: Suite, task: str, named: Named, attacks: Any) -> list[Cell]:
    cells: list[Cell] = []
    for attack, wrong in attacks:
        budgets, sanity = _budgets(suite, task, attack)
        matched = next((c.key for c in cells if c.attack == wrong), None)
        cells.append(Cell(f"{task}/{named.name}/{attack!r}", task, named.name, attack, budgets, sanity, 0, matched))
    return cells


def _budgets(suite: Suite, task: str, attack: Attack) -> tuple[tuple[float, ...], frozenset[float]]:
    """All budgets, and which of them are for sanity only; none where the suite does not give the threat model any."""
    if attack.name == "zero":
        return (0.0,), frozenset()
    chosen = suite.tasks[task]
    if attack.threat_model == ThreatModel.TOKEN_SUFFIX:
        return tuple(map(float, chosen.token_budgets)), frozenset()
    suffix = attack.threat_model == ThreatModel.SOFT_SUFFIX
    grid = chosen.suffix_budgets if suffix else chosen.budgets
    # controls, constrained attacks and suffixes of a few tokens need not succeed without bounds
    if attack.is_control or attack.constraint != "none" or suffix or not grid:
        return grid, frozenset()
    beyond = SANITY_FACTOR * grid[-1]
    return (*grid, beyond), frozenset({beyond})


def _with_keys(
    cells: Sequence[Cell],
    defenses: Mapping[str, Named],
    tasks: Mapping[str, Task],
    content: Mapping[str, list[str]],
    common: Mapping[str, Any],
    seed: int,
) -> list[Cell]:
    """Replace provisional names by keys; ``matched`` follows."""
    keys: dict[str, str] = {}
    for cell in cells:
        what = {
            **common,
            "task": [cell.task, tasks[cell.task].version, content[cell.task]],
            "defense": defenses[cell.defense].spec,
            "name": cell.defense,
            "attack": [cell.attack.name, settings(cell.attack)],
            "budgets": list(cell.budgets),
        }
        keys[cell.key] = sha(what)
    return [replace(c, key=keys[c.key], seed=seed, matched=keys[c.matched] if c.matched else None) for c in cells]


def _refuse_twins(cells: Sequence[Cell]) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.key in seen:
            raise UsageError(f"the plan has the same cell twice: {cell.task} x {cell.defense} x {cell.attack!r}")
        seen.add(cell.key)


def suite_attacks(suite: Suite, names: Sequence[str] | None) -> list[Attack]:
    """The suite's attacks, or those with the given names; an attack that the suite lacks runs with its defaults."""
    listed = [(str(entry["attack"]), {k: v for k, v in entry.items() if k != "attack"}) for entry in suite.attacks]
    if names is None:
        return [resolve_attack(name, options) for name, options in listed]
    chosen: list[Attack] = []
    for name in names:
        matching = [resolve_attack(n, options) for n, options in listed if n == name]
        chosen += matching or [resolve_attack(name)]
    return list(dict.fromkeys(chosen))


def attacks_under(protocol: Protocol, attacks: Sequence[Attack]) -> list[Attack]:
    """The attacks as a protocol runs them: the study's search in place of ours, and nothing written before a clamp
    that never sees what is written; attacks that this makes equal are one."""
    return list(dict.fromkeys(_under(protocol, attack) for attack in attacks))


def _under(protocol: Protocol, attack: Attack) -> Attack:
    if Switch.LAST_ITERATE in protocol and attack.published is not None:
        kept = {"threat_model": attack.threat_model, "constraint": attack.constraint, "goal": attack.goal}
        attack = resolve_attack(attack.published, kept)
    if Switch.BAKED_CLAMP in protocol and attack.threat_model == ThreatModel.BEFORE_EDIT:
        attack = replace(attack, threat_model=ThreatModel.AFTER_EDIT)
    return attack
