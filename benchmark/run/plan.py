"""The plan of a run: which cells there are, in which order, and the key of each.

A cell is (task, defense, attack with its settings, seed) with a whole grid of budgets. Its key hashes everything that
changes its results and nothing else: not the pack size, the device or the display.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmark.code import summary
from benchmark.contracts.attack import Attack
from benchmark.contracts.example import Example
from benchmark.contracts.protocol import Protocol
from benchmark.errors import UsageError
from benchmark.registry import threat
from benchmark.run.editions import editions
from benchmark.run.parts import PARTS, attack_label, parts_of
from benchmark.run.request import over
from benchmark.run.task_view import TaskView
from benchmark.sites import Site
from benchmark.spec import Named, resolve_attack, settings
from benchmark.suite import Suite
from benchmark.values import by_content, sha

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
    code: Mapping[str, str] = field(default_factory=dict, hash=False)
    """engine, task, defense, attack -> hash of the sources that take part."""
    split: Literal["test", "fresh"] = "test"
    """Whose examples it attacks; fresh ones are compared with ``test`` and enter no score."""
    replays: tuple[str, ...] = ()
    """Keys of the cells whose findings it tries too: of a threat model that can do all that its own can."""

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
            "code": dict(self.code),
            "split": self.split,
            "replays": list(self.replays),
            "controls": self._controls(),
            "file": f"cells/{self.key}.parquet",
        }

    def _controls(self) -> list[dict[str, str]]:
        """What must run beside it."""
        if self.attack.is_control or self.split != "test":
            return []
        return [{**access(c), "goal": c.goal} for c in self.attack.controls()]


def access(attack: Attack) -> dict[str, str]:
    """What identifies an attack of a suite, for who checks that all of them ran."""
    return {"attack": attack.title, "threat_model": attack.threat_model, "constraint": attack.constraint}


@dataclass(frozen=True)
class Plan:
    """All cells of a run, in their order."""

    suite: Suite
    defenses: Mapping[str, Named]
    tasks: Mapping[str, TaskView]
    cells: tuple[Cell, ...]
    identity: str = field(default="")
    """Hash of the cells' keys: a run directory belongs to exactly one."""
    protocol: Protocol = field(default_factory=Protocol)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What the keys were made of, part by part: what a directory of another plan is compared with."""

    def on(self, task: str) -> list[Named]:
        """The defenses that a task is met with, each followed by its editions there."""
        return _with_editions([d for d in self.defenses.values() if d.edition is None], self.suite, task)

    def sae(self, named: Named, site: str) -> str:
        """The SAE of the suite that a defense reads at a site that has one."""
        return self.suite.saes[site][0] if named.edition is None else dict(named.edition.saes)[site]

    def describe(self) -> dict[str, Any]:
        """The plan as JSON values, for plan.json."""
        return {
            "identity": self.identity,
            "suite": self.suite.name,
            "protocol": self.protocol.name,
            "inputs": self.inputs,
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

    Control defenses are only classified (how much do they suppress by themselves), not attacked. A defense that reads
    the suite's SAE where there are several is crossed with each of them.

    Raises:
        UsageError: two defenses or two attacks of one plan cannot be told apart, or no attack applies to any task.
    """
    protocol = protocol or Protocol()
    everyone: dict[str, Named] = {}
    for named in (*defenses, *control_defenses):
        _add(everyone, named, new=True)
    classify = [resolve_attack(suite.controls.attack)] if suite.controls.attack else []
    applying = _applying(suite, tasks, attacks)
    cells: list[Cell] = []
    made: dict[tuple[str, str], Sequence[Example]] = {}
    for task in tasks:
        for named in _with_editions(defenses, suite, task):
            _add(everyone, named)
            cells += _cells(suite, task, named.name, _with_controls(applying[task]))
            made[task, named.name] = fresh_examples(tasks[task], named.spec, seed)
            if made[task, named.name]:
                cells += [
                    replace(c, key=f"{c.key}/fresh", split="fresh", replays=()) for c in _main(cells, task, named)
                ]
        for named in _with_editions(control_defenses, suite, task):
            _add(everyone, named)
            cells += _cells(suite, task, named.name, classify)
    saes = {site: [by_content(source) for source in sources] for site, sources in suite.saes.items()}
    inputs = {
        "suite": suite.hash,
        "model": weights_sha,
        "saes": saes,
        "dtype": dtype,
        "seed": seed,
        "protocol": protocol.name,
        "attribution": attribution,
        **parts_of(cells, everyone, tasks, protocol),
    }
    keyed = _with_keys(cells, inputs, seed, made)
    _refuse_twins(keyed)
    return Plan(suite, everyone, tasks, tuple(keyed), sha([c.key for c in keyed]), protocol, inputs)


def _add(everyone: dict[str, Named], named: Named, *, new: bool = False) -> None:
    known = everyone.setdefault(named.name, named)
    if known is not named and (new or known.edition != named.edition):
        raise UsageError(
            f"two defenses of this run have the same name, {named.name}; give one another `name` in its spec"
        )


def _with_editions(defenses: Sequence[Named], suite: Suite, task: str) -> list[Named]:
    site = Site.parse(suite.tasks[task].site)
    return [one for named in defenses for one in editions(named, site, suite.saes)]


def _main(cells: Sequence[Cell], task: str, named: Named) -> list[Cell]:
    """The cell of the first attack that searches without a constraint under a primary threat model, if there is one."""
    found = [
        cell
        for cell in cells
        if (cell.task, cell.defense, cell.split) == (task, named.name, "test")
        and (cell.attack.goal, cell.attack.constraint) == ("behavior", "none")
        and cell.attack.searches
        and not cell.attack.is_control
        and threat(cell.attack.threat_model).role == "primary"
    ]
    return found[:1]


def fresh_examples(task: TaskView, spec: Mapping[str, Any], seed: int) -> Sequence[Example]:
    """Examples made for one defense in runs of one seed.

    Args:
        spec: of the defense (``Named.spec``): its own code is in the key, so that it cannot hold them.
    """
    return task.fresh(sha([seed, task.name, spec]), FRESH)


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


def _with_controls(attacks: Sequence[Attack]) -> Iterator[Attack]:
    """Every attack, after itself aimed at the wrong target where that is asked; then all their controls, once each."""
    controls: dict[Attack, None] = {}
    for attack in attacks:
        if attack.is_control:
            controls[attack] = None
            continue
        if _steers(attack):
            yield replace(attack, goal="wrong")
        yield attack
        controls |= dict.fromkeys(attack.controls())
    yield from controls


def _steers(attack: Attack) -> bool:
    """Whether the defended model is also steered to a wrong target with an attack: a diagnostic of the scored threat
    models, and dear, so it is asked of attacks that are free to write anything."""
    return attack.constraint == "none" and threat(attack.threat_model).role != "diagnostic"


def asked_cells(suite: Suite, task: TaskView, defense: str) -> list[Cell]:
    """Every cell that a suite asks of a defense on a task, without the key that a model gives it."""
    applying = [attack for attack in suite_attacks(suite) if _meets(suite, task, attack)]
    return _cells(suite, task.name, defense, _with_controls(applying))


def _cells(suite: Suite, task: str, defense: str, attacks: Iterable[Attack]) -> list[Cell]:
    cells: list[Cell] = []
    for attack in attacks:
        budgets, sanity = _budgets(suite, task, attack)
        cells.append(Cell(f"{task}/{defense}/{attack!r}", task, defense, attack, budgets, sanity))
    return [replace(cell, replays=tuple(c.key for c in cells if _shows(c.attack, cell.attack))) for cell in cells]


def _shows(one: Attack, other: Attack) -> bool:
    """Whether what one attack finds is worth a try under the other's threat model."""
    search = all(attack.searches and not attack.is_control and not attack.learns for attack in (one, other))
    return search and threat(other.threat_model).reaches_less_than == one.threat_model


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """The cells in the order of the plan, but each after those whose findings it tries."""
    known = {cell.key: cell for cell in cells}

    def depth(cell: Cell) -> int:
        return max((1 + depth(known[key]) for key in cell.replays if key in known), default=0)

    return sorted(cells, key=depth)


def _budgets(suite: Suite, task: str, attack: Attack) -> tuple[tuple[float, ...], frozenset[float]]:
    """All budgets, and which of them are for sanity only; none where the suite does not give the threat model any."""
    grid = tuple(map(float, attack.budgets(suite.tasks[task].budgets.get(attack.threat_model, ()))))
    # controls and constrained attacks need not succeed without bounds
    if attack.is_control or attack.constraint != "none" or not threat(attack.threat_model).unbounded or not grid:
        return grid, frozenset()
    beyond = SANITY_FACTOR * grid[-1]
    return (*grid, beyond), frozenset({beyond})


def _with_keys(
    cells: Sequence[Cell], inputs: Mapping[str, Any], seed: int, made: Mapping[tuple[str, str], Sequence[Example]]
) -> list[Cell]:
    """Keys in the place of provisional names; ``made``: the fresh examples by task and defense."""
    known = {cell.key: cell for cell in cells}
    found: list[Cell] = []
    for cell in cells:
        fresh = made[cell.task, cell.defense] if cell.split == "fresh" else ()
        found.append(_keyed(cell, inputs, seed, fresh, [known[key] for key in cell.replays]))
    keys = {cell.key: made.key for cell, made in zip(cells, found, strict=True)}
    return [replace(cell, replays=tuple(keys[key] for key in cell.replays)) for cell in found]


def _keyed(cell: Cell, inputs: Mapping[str, Any], seed: int, fresh: Sequence[Example], shown: Sequence[Cell]) -> Cell:
    """The cell with its key, and the code that it goes through.

    Args:
        fresh: the examples that were made for it.
        shown: the cells whose findings it tries, without which its results are others.
    """
    attack, kind = inputs["attacks"][attack_label(cell.attack)], PARTS
    mine = {"task": inputs["tasks"][cell.task], "defense": inputs["defenses"][cell.defense], "attack": attack}
    common = {name: value for name, value in inputs.items() if name not in ("engine", *kind.values())}
    common["saes"] = {site: sources[:1] for site, sources in inputs["saes"].items()}  # an edition's are in its spec
    code = {"engine": summary(inputs["engine"]), **{part: summary(mine[part]["code"]) for part in kind}}
    contents = {part: {n: v for n, v in mine[part].items() if n != "code"} for part in kind}
    given = [[inputs["attacks"][attack_label(c.attack)], list(c.budgets)] for c in shown]
    made = {"split": cell.split, "fresh": [e.content_hash for e in fresh], "replays": given}
    what = {**common, **contents, **made, "code": code, "name": cell.defense, "budgets": list(cell.budgets)}
    return replace(cell, key=sha(what), seed=seed, code=code)


def _refuse_twins(cells: Sequence[Cell]) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.key in seen:
            raise UsageError(
                f"the plan has the same cell twice: {cell.task} x {cell.defense} x {cell.attack!r}; leave one out"
            )
        seen.add(cell.key)


def suite_attacks(
    suite: Suite, names: Sequence[str] | None = None, given: Mapping[str, Any] | None = None
) -> list[Attack]:
    """The suite's attacks, or those with the given names; an attack that the suite lacks runs with its defaults.

    Args:
        given: settings on top of those of each named attack.
    """
    listed = [(str(entry["attack"]), {k: v for k, v in entry.items() if k != "attack"}) for entry in suite.attacks]
    if names is None:
        return [resolve_attack(n, options, f"suite {suite.name}, attack {n}") for n, options in listed]
    chosen: list[Attack] = []
    for name in names:
        own = [options for n, options in listed if n == name] or [{}]
        chosen += [resolve_attack(name, over(options, given or {}), f"attack {name}") for options in own]
    return list(dict.fromkeys(chosen))
