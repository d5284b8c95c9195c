"""Attacks that learn: from the suppressed examples of ``fit``, attacked with the budgets and the access of ``test``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

from benchmark.contracts.attack import Attack
from benchmark.measure.group import Group
from benchmark.measure.judging import eligible, judge, saturation
from benchmark.model.pack import make_packs
from benchmark.registry import threat
from benchmark.search.pack_size import PackSize

_ON_FIT: WeakKeyDictionary[Group, Group] = WeakKeyDictionary()


def train(group: Group, attack: Attack, budgets: Sequence[float], seed: int, pack_size: PackSize) -> Attack:
    """The attack after learning; nothing of ``test`` is seen."""
    group, model = on_fit(group), threat(attack.threat_model)
    packs = make_packs(group.subject, group.task, group.aimed(attack.goal), pack_size.rows, attack.goal)
    return attack.trained([model.problem(group, attack.terms(seed), budgets, pack, pack_size) for pack in packs])


def untrainable(group: Group, attack: Attack) -> str | None:
    """Why an attack has nothing to learn from; None: it has, or it does not learn."""
    if not attack.learns:
        return None
    if group.perturbed == "all":
        return "what is learned on some prompts has their length, and the task perturbs whole prompts"
    return (
        None if on_fit(group).aimed(attack.goal) else "no example of fit is suppressed: there is nothing to learn from"
    )


def on_fit(group: Group) -> Group:
    """The same defense, with the references of the ``fit`` examples."""
    if group not in _ON_FIT:
        subject, task = group.subject, group.task
        examples = task.examples("fit")
        base = judge(subject, task, examples, {})
        _ON_FIT[group] = replace(
            group,
            examples=examples,
            base=base,
            defended=judge(subject, task, examples, group.fitted.edits),
            eligible=eligible(subject, task, examples, base),
            saturation=saturation(subject, task, examples),
        )
    return _ON_FIT[group]
