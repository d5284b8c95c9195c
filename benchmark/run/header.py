"""``run.json``: what a run says of itself, so that its rows are read without the suite, the model or the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.code import summary
from benchmark.registry import threat
from benchmark.run.parts import PARTS
from benchmark.run.plan import Plan, access, suite_attacks
from benchmark.run.prepare import Prepared
from benchmark.run.provenance import environment
from benchmark.run.task_view import TaskView
from benchmark.spec import Named, recipe
from benchmark.suite import Frozen, Suite, TaskSettings
from benchmark.values import sha

SCHEMA_VERSION = 2
"""Of this file; a key that means something else raises it."""


def header(
    prepared: Prepared,
    frozen: Mapping[str, Frozen],
    saes: Mapping[str, Sequence[Mapping[str, Any]]],
    state: Mapping[str, Any],
) -> dict[str, Any]:
    """As JSON values.

    Args:
        frozen: of the tasks that were begun, their constants.
        saes: of the same, the SAEs that were looked at.
        state: how far the run is, and what it took.
    """
    plan, subject, taken = prepared.plan, prepared.subject, prepared.subject.taken
    models = _threat_models(plan)
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": plan.identity,
        **state,
        "protocol": plan.protocol.name,
        "ranked": plan.protocol.ranked,
        "limit": prepared.limit,
        "suite": described_suite(plan.suite),
        "model": {
            "id": plan.suite.model.name,
            "source": taken.source if taken else None,
            "revision": taken.revision if taken else None,
            "bos": subject.bos,
            "weights_sha": subject.weights_sha,
        },
        "code": _code(plan),
        "seed": prepared.request.seed,
        "dtype": prepared.request.dtype,
        "threats": {name: threat(name).describe() for name in models},
        "tasks": {
            name: {
                **described_task(plan.suite.tasks[name], plan.tasks[name], models, frozen[name]),
                "saes": list(saes[name]),
            }
            for name in frozen
        },
        "defenses": {name: _defense(named, subject.saes) for name, named in plan.defenses.items()},
        **environment(subject.device),
    }


def described_suite(suite: Suite) -> dict[str, Any]:
    """What a run says of its suite."""
    return {
        "name": suite.name,
        "version": suite.version,
        "hash": suite.hash,
        "tasks": list(suite.tasks),
        "attacks": [access(attack) for attack in suite_attacks(suite) if not attack.is_control],
        "undefended": suite.controls.undefended,
        "utility": [{"task": entry.name, "keep": entry.keep} for entry in suite.utility],
    }


def _code(plan: Plan) -> dict[str, Any]:
    """Hash of the sources by part; their files are in plan.json."""
    inputs = plan.inputs
    named = {group: {n: summary(one["code"]) for n, one in inputs[group].items()} for group in PARTS.values()}
    return {"engine": summary(inputs["engine"]), **named}


def _threat_models(plan: Plan) -> list[str]:
    """Those of the suite and of the plan."""
    named = [name for settings in plan.suite.tasks.values() for name in settings.budgets]
    return sorted({*named, *(cell.attack.threat_model for cell in plan.cells)})


def described_task(settings: TaskSettings, task: TaskView, models: Sequence[str], frozen: Frozen) -> dict[str, Any]:
    """What a run says of a task, beside the SAEs that it looked at there.

    Args:
        models: names of the threat models that are asked about.
        frozen: the constants that it was run with.
    """
    return {
        "site": settings.site,
        "threat_models": [model for model in models if threat(model).applies(task) is None],
        "budgets": {model: list(budgets) for model, budgets in settings.budgets.items()},
        **frozen.model_dump(exclude={"weights_sha"}),
        "examples_hash": sha([e.content_hash for e in task.examples("test")]),
    }


def _defense(named: Named, saes: Mapping[str, str]) -> dict[str, Any]:
    read = saes if named.edition is None else named.edition.saes
    return {
        "recipe": recipe(named),
        "spec": named.spec,
        "spec_sha": sha(named.spec),
        "family": named.family,
        "saes": dict(read),
    }
