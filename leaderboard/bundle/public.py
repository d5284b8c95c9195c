"""A run of one defense, as it is published: less other defenses, with hashes in the place of a machine's folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.values import by_content
from leaderboard.rows.plan import Plan

LEFT_OUT = ("estimate", "took")
"""Of ``run.json``: how long it took on whose machine."""


def public_header(header: Mapping[str, Any], plan: Plan, kept: set[str]) -> dict[str, Any]:
    """``run.json`` with the defenses of ``kept``; what makes them is in the entry's spec."""
    content = plan.inputs.saes
    found = {name: value for name, value in header.items() if name not in LEFT_OUT}
    code = dict(header.get("code", {}))
    code["defenses"] = {name: one for name, one in code.get("defenses", {}).items() if name in kept}
    tasks = {name: _task(task, content) for name, task in header["tasks"].items()}
    defenses = {name: _defense(one, content) for name, one in header["defenses"].items() if name in kept}
    return {**found, "code": code, "tasks": tasks, "defenses": defenses}


def public_plan(plan: Mapping[str, Any], kept: set[str]) -> dict[str, Any]:
    """``plan.json`` with the cells of the defenses of ``kept``."""
    inputs = dict(plan.get("inputs", {}))
    inputs["defenses"] = {name: one for name, one in inputs.get("defenses", {}).items() if name in kept}
    cells = [cell for cell in plan["cells"] if cell["defense"] in kept]
    return {**plan, "inputs": inputs, "cells": cells}


def _task(task: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    saes = [{**one, "source": _portable(one["source"], one["site"], content)} for one in task.get("saes", [])]
    return {**task, "saes": saes}


def _defense(defense: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    saes = {site: _portable(source, site, content) for site, source in defense.get("saes", {}).items()}
    return {name: value for name, value in {**defense, "saes": saes}.items() if name != "recipe"}


def _portable(source: str, site: str, content: Mapping[str, Any]) -> str:
    """A source in words that mean the same on any machine; of a folder that is not there any more, what the plan knew
    of the suite's SAE at the site."""
    found = by_content(source)
    known = content.get(site) or []
    return known[0] if found == source and source.startswith(("/", "~")) and len(known) == 1 else found
