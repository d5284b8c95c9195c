"""Measure a suite's constants on its own model: what makes budgets and tolerances comparable between defenses.

Norms and tau on ``fit``, the steering ceilings on ``dev``, and on ``test`` where each example is steered to its wrong
target (METHOD sections 5, 8 and 9). None depends on a defense.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import Tensor

from benchmark.contracts.attack import Attack
from benchmark.contracts.defense import FittedDefense
from benchmark.contracts.example import Example
from benchmark.contracts.row import Row
from benchmark.documents import read
from benchmark.errors import UsageError
from benchmark.files import write_atomically
from benchmark.measure.group import Group, Scale
from benchmark.measure.judging import Judged, eligible, judge, saturation
from benchmark.measure.self_check import tails_run_as_one
from benchmark.model.pack import encode
from benchmark.model.streams import embedding_norm, readout_streams, residual_norms
from benchmark.model.subject import Subject
from benchmark.plain_yaml import written
from benchmark.registry import threat
from benchmark.run.cell import run_cell
from benchmark.run.plan import Cell
from benchmark.run.proposal import budgets, grid
from benchmark.run.task_view import TaskView
from benchmark.sae.dictionary import open_dictionary
from benchmark.search.pack_size import PackSize
from benchmark.sites import Site
from benchmark.suite import AUTO, Frozen, TaskSettings

T = TypeVar("T")
SHORT = 4
"""Longest list of numbers by name that is written on one line."""
FLOOR = 0.01
"""Share of the undefended model's median probability of the choices, below which it is broken."""
_ALIAS = re.compile(r"\s*:\s+\*[^\s,\]}]+")
STEERED = 0.10
"""Share of ``dev`` that may be steered to a wrong target at the ceiling."""


AT_ONCE = 3
"""Candidates that one search is for, an octave of them: a search that may go further looks less closely near by."""


def measure(
    subject: Subject, task: TaskView, settings: TaskSettings, attacks: Sequence[Attack], batch_rows: int = 256
) -> Frozen:
    """All constants of a task; threat models' with the first unconstrained attack of the suite under each.

    Raises:
        UsageError: the model knows nothing of a split.
        RuntimeError: an attack failed.
    """
    fit = task.examples("fit")
    shown = judge(subject, task, fit, {})
    _check_known(subject, task, "fit", eligible(subject, task, fit, shown))
    floor = _floor(shown)
    norms, embedding = residual_norms(subject, task, fit), embedding_norm(subject, task, fit)
    dev, test = (
        all_attacked(subject, task, settings, task.examples(split), Scale(norms, embedding), floor)
        for split in ("dev", "test")
    )
    for split, group in (("dev", dev), ("test", test)):
        _check_known(subject, task, split, group.eligible)
    found = steering(task, settings, attacks)
    dev, test = (replace(group, together=tails_run_as_one(group, map(threat, found))) for group in (dev, test))
    ceilings = _once(found, lambda name, attack: _ceiling(dev, attack, batch_rows))
    grids = budgets(settings, ceilings)
    tried = {name: _ranked(grids.get(name, ()), ceilings[name]) for name in found}
    return Frozen(
        weights_sha=subject.weights_sha,
        residual_norms={str(site_at(subject, b)): round(n, 6) for b, n in norms.items()},
        embedding_norm=round(embedding, 6),
        ceilings={name: ceilings.get(name) for name in settings.budgets},
        tau=_tau(subject, task, settings, fit),
        floor=floor,
        steered=_once(found, lambda name, attack: _steered(test, attack, tried[name], batch_rows), tried),
    )


def site_at(subject: Subject, boundary: int) -> Site:
    """The site of a boundary: a layer's input, or the last one's output."""
    return Site(boundary) if boundary < subject.n_layers else Site(boundary - 1, "resid_post")


def all_attacked(
    subject: Subject,
    task: TaskView,
    settings: TaskSettings,
    examples: Sequence[Example],
    scale: Scale,
    floor: float | None = None,
) -> Group:
    """A group in which every example that the model knows counts as suppressed, so that all of them are attacked."""
    base = judge(subject, task, examples, {})
    nowhere = base._replace(margin=torch.full_like(base.margin, -1.0))
    return Group(
        subject,
        task,
        FittedDefense(edits={}),
        {},
        (Site.parse(settings.site).boundary,),
        examples,
        base,
        nowhere,
        eligible(subject, task, examples, base),
        saturation(subject, task, examples),
        scale,
        settings.perturbed,
        settings.suffix_tokens,
        tail=True,
        tau=0.0,
        floor=floor,
    )


def _check_known(subject: Subject, task: TaskView, split: str, known: Tensor) -> None:
    """Whether the model shows the behavior on any example: without one there is nothing to suppress, nor to steer."""
    if not known.any():
        raise UsageError(
            f"task {task.name}: {subject.name} shows the behavior on {int(known.sum())} of {len(known)} examples of"
            f" {split}, so there is nothing to suppress; give data that the model knows, put it otherwise (-T, `bench"
            " show KIND` lists the settings), or take another model"
        )


def steering(task: TaskView, settings: TaskSettings, attacks: Sequence[Attack]) -> dict[str, Attack]:
    """Threat model -> its first unconstrained attack, aimed at the wrong target; one that does not apply to the task,
    or that the suite has no such attack under, is left out."""
    free = [a for a in reversed(attacks) if a.constraint == "none" and not a.is_control]
    first = {a.threat_model: replace(a, goal="wrong") for a in free}
    return {name: first[name] for name in settings.budgets if name in first and threat(name).applies(task) is None}


def _once(
    attacks: Mapping[str, Attack], measured: Callable[[str, Attack], T], budgets: Mapping[str, object] | None = None
) -> dict[str, T]:
    """Threat model -> what is measured under it; those that are one where there is no defense, with equal searches and
    budgets, share it."""
    found: dict[str, T] = {}
    searched: list[tuple[object, str]] = []
    for name, attack in attacks.items():
        what = (replace(attack, threat_model=threat(name).undefended or name), (budgets or {}).get(name))
        same = next((other for known, other in searched if known == what), None)
        found[name] = measured(name, attack) if same is None else found[same]
        searched.append((what, name))
    return found


def _ceiling(group: Group, attack: Attack, batch_rows: int) -> float:
    """The largest candidate at which at most ``STEERED`` of the examples reach their wrong target.

    Raises:
        RuntimeError: the attack failed.
    """
    grid, allowed = tuple(threat(attack.threat_model).ceilings), 0.0
    for start in range(0, len(grid), AT_ONCE):
        tried = grid[start : start + AT_ONCE]
        rows = _attacked(group, attack, tried, batch_rows)
        for eps in tried:
            steered = [bool(r.outcome.recovered) for r in rows if r.identity.budget_eps == eps]
            if sum(steered) > STEERED * len(steered):
                return allowed
            allowed = eps
    return allowed


def _ranked(budgets: Sequence[float], ceiling: float) -> tuple[float, ...]:
    """The budgets up to the ceiling."""
    return tuple(float(eps) for eps in budgets if eps <= ceiling * (1 + 1e-9))


def _steered(group: Group, attack: Attack, budgets: tuple[float, ...], batch_rows: int) -> dict[str, float]:
    """Example -> the smallest of the budgets at which its wrong target is reached; those of which none is are left out.

    Raises:
        RuntimeError: the attack failed.
    """
    rows = _attacked(group, attack, budgets, batch_rows) if budgets else []
    return {r.identity.example_id: r.outcome.eps_star for r in rows if r.outcome.eps_star is not None}


def _attacked(group: Group, attack: Attack, budgets: tuple[float, ...], batch_rows: int) -> list[Row]:
    """Rows of the examples that the model knows."""
    cell = Cell("undefended", group.task.name, "", attack, budgets)
    measured = run_cell(group, cell, PackSize(batch_rows))
    if measured.failures:  # a search that fails steers nobody, which is no constant
        raise RuntimeError(f"no ceiling of {attack.threat_model} on {group.task.name}: {measured.failures[-1]}")
    return [r for r in measured.rows if r.outcome.suppressed]


def _floor(undefended: Judged) -> float | None:
    """``FLOOR`` of the median mass; None: the readout has none, or it is too small for a number (long choices)."""
    log_mass = undefended.log_mass
    return None if log_mass is None else float(f"{FLOOR * math.exp(float(log_mass.median())):.6g}") or None


@torch.no_grad()
def _tau(subject: Subject, task: TaskView, settings: TaskSettings, examples: Sequence[Example]) -> float | None:
    """95th percentile of the relative change of the SAE's latents between two random prompts of one length; None: there
    is no SAE at the site, or no two prompts are of one length."""
    if settings.site not in subject.saes:
        return None
    features = open_dictionary(subject, Site.parse(settings.site)).everything
    boundary = features.site.boundary
    act = features.encode(readout_streams(subject, task, examples, frozenset({boundary}))[boundary]).act
    lengths = torch.tensor([len(m.encoded.tokens) for m in encode(subject, task, examples)], device=act.device)
    changes = [_pairwise_change(act[lengths == length]) for length in lengths.unique().tolist()]
    found = torch.cat(changes)
    return round(float(found.quantile(0.95)), 4) if len(found) else None


def _pairwise_change(act: Tensor) -> Tensor:
    """Relative change of the activations (prompts, latents) from each prompt to another one, drawn at random."""
    shift = int(torch.randint(1, max(len(act), 2), (1,), generator=torch.Generator().manual_seed(len(act))))
    other = act.roll(shift, 0)
    change = (act - other).norm(dim=1) / act.norm(dim=1).clamp(min=1e-12)
    return change if len(act) > 1 else change[:0]


def write_into(path: Path, frozen: Mapping[str, Frozen]) -> None:
    """Put the constants into a suite file; everything else of it stays as it is written.

    (A file whose tasks are not written in block style is written anew, and loses its comments.)

    Raises:
        UsageError: the file itself does not list a task; nothing is written.
    """
    text, content = path.read_text("utf-8"), read(path).value
    missing = [task for task in frozen if task not in content.get("tasks", {})]
    if missing:
        raise UsageError(f"{path} has no place for the constants of {', '.join(missing)}: list it there under `tasks:`")
    for task, constants in frozen.items():
        proposed = _proposed(content["tasks"][task]["budgets"], constants)
        content["tasks"][task]["budgets"] |= proposed
        text = _with_budgets(text, task, proposed)
        content["tasks"][task]["frozen"] = constants.model_dump()
        text = _with_constants(text, task, constants)
    if yaml.safe_load(text) != content:
        text = written(content)
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))


def _proposed(written_there: Mapping[str, Any], constants: Frozen) -> dict[str, list[float]]:
    """Threat model -> the grid in the place of its ``auto``; one whose ceiling allows none stays as it is."""
    auto = [name for name, budgets_there in written_there.items() if budgets_there == AUTO]
    grids = {name: grid(threat(name).ceilings, constants.ceilings.get(name) or 0.0) for name in auto}
    return {name: list(found) for name, found in grids.items() if found}


def _with_budgets(text: str, task: str, proposed: Mapping[str, Sequence[float]]) -> str:
    """The text of a suite with grids in the place of a task's ``auto``."""
    for name, found in proposed.items():
        budgets_there = _entries(_entries(_entries(yaml.compose(text))["tasks"][1])[task][1])["budgets"][1]
        value = _entries(budgets_there)[name][1]
        text = (
            text[: value.start_mark.index]
            + yaml.safe_dump(found, default_flow_style=True).strip()
            + text[_end(value) :]
        )
    return text


def _with_constants(text: str, task: str, constants: Frozen) -> str:
    """The text of a suite with the lines of a task's ``frozen:`` exchanged, or added behind its other lines."""
    settings = _entries(_entries(yaml.compose(text))["tasks"][1])[task][1]
    entries = _entries(settings)
    column = settings.value[0][0].start_mark.column
    fields = [_dumped({name: value}) for name, value in constants.model_dump().items()]
    lines = "\n".join(" " * column + line for line in ["frozen:", *("  " + one for some in fields for one in some)])
    if "frozen" not in entries:
        end = _end(settings)
        return f"{text[:end]}\n{lines}{text[end:]}"
    key, value = entries["frozen"]
    return text[: key.start_mark.index - column] + lines + text[_end(value) :]


def _dumped(field: Mapping[str, Any]) -> list[str]:
    """Lines of a constant: a long list of numbers by name with one a line."""
    (value,) = field.values()
    plain = not isinstance(value, dict)
    long = not plain and len(value) > SHORT and not any(isinstance(one, dict) for one in value.values())
    style = False if plain or long else None
    text = yaml.safe_dump(dict(field), sort_keys=False, width=112, default_flow_style=style)
    return text.rstrip().split("\n")


def _entries(node: Any) -> dict[str, tuple[Any, Any]]:
    """A mapping's keys -> its nodes of the key and of the value."""
    return {key.value: (key, value) for key, value in node.value}


def _end(node: Any) -> int:
    """Where the last character of a node is, comments behind it left out."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return node.end_mark.index
    last = node.value[-1]
    if not isinstance(last, tuple):
        return _end(last)
    key, value = last
    alias = _ALIAS.match(key.end_mark.buffer, key.end_mark.index)  # its node is the one that it stands for, further up
    return alias.end() if alias else _end(value)
