"""The default evaluation on the shipped organism has the shape that makes it a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark import evaluate
from benchmark.suite_file import load_suite

CLAMP = {"count": 12, "rate_ratio": 1.25, "strength": 1.0}
"""A clamp of which all is given: what attacks do to it is about them, whatever the default is calibrated to."""


FEW = {"ioi": 50, "unlearning": 60}
"""Examples of a task; those of ``unlearning`` are few questions, asked in many orders."""


@pytest.fixture(scope="module", params=FEW)
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("embedded") / "run"
    asked: dict[str, Any] = {"tasks": [request.param], "attacks": ["recovery"], "limit": FEW[request.param]}
    result = evaluate("sae-clamp", options=CLAMP, output_dir=folder, **asked)
    return result.rows.to_pylist()


def share(rows: list[dict[str, Any]], *, sanity: bool = False, eps: float | None = None, **where: Any) -> float:
    """Share of the suppressed examples that reached the goal, by default at the largest ranked budget."""
    where |= {"split": "test", "sanity": sanity, "suppressed": True}
    found = [r for r in rows if all(r[k] == v for k, v in where.items())]
    at = max(r["budget_eps"] for r in found) if eps is None else eps
    hits = [bool(r["recovered"]) for r in found if r["budget_eps"] == at]
    return sum(hits) / len(hits)


def test_the_clamp_suppresses_what_the_base_shows_and_random_latents_do_not(rows: list[dict[str, Any]]) -> None:
    def suppressed(defense: str) -> float:
        mine = [r for r in rows if r["defense"] == defense and r["attack"] == "zero" and r["eligible"]]
        return sum(r["suppressed"] for r in mine) / len(mine)

    assert 0.3 <= suppressed("sae-clamp") <= 0.95
    assert suppressed("random-clamp") <= suppressed("sae-clamp") / 3 and suppressed("none") == 0


@pytest.mark.parametrize("threat", ["before_edit", "after_edit"])
def test_random_directions_stay_far_below_the_attack(rows: list[dict[str, Any]], threat: str) -> None:
    where: dict[str, Any] = {"defense": "sae-clamp", "threat_model": threat, "constraint": "none"}
    recovered, random = (share(rows, attack=name, **where) for name in ("recovery", "random-direction"))
    assert recovered >= 0.8 and random <= 0.4 * recovered


def test_a_wrong_target_stays_far_below_the_attack(rows: list[dict[str, Any]]) -> None:
    where: dict[str, Any] = {"defense": "sae-clamp", "threat_model": "before_edit", "constraint": "none"}
    assert share(rows, attack="wrong-target", **where) <= 0.4 * share(rows, attack="recovery", **where)


def test_the_constraint_costs_little_and_keeps_the_drift_at_zero(rows: list[dict[str, Any]]) -> None:
    held = [r for r in rows if r["attack"] == "recovery" and r["constraint"] == "encoder" and r["status"] == "ok"]
    assert held and max(r["drift_abs"] for r in held) <= 1e-3 * max(r["delta_norm"] for r in held)
    assert share(rows, attack="recovery", constraint="encoder", threat_model="after_edit") >= 0.8


def test_without_bounds_the_attack_succeeds(rows: list[dict[str, Any]]) -> None:
    where: dict[str, Any] = {"attack": "recovery", "defense": "sae-clamp", "constraint": "none", "sanity": True}
    assert share(rows, threat_model="before_edit", **where) >= 0.95
    assert share(rows, threat_model="after_edit", **where) >= 0.95


def test_zero_budget_recovers_nothing(rows: list[dict[str, Any]]) -> None:
    assert share(rows, attack="zero", defense="sae-clamp", threat_model="before_edit") == 0
    assert share(rows, attack="zero", defense="sae-clamp", threat_model="after_edit") == 0


def test_more_budget_never_recovers_less(rows: list[dict[str, Any]]) -> None:
    task = rows[0]["task"]
    where: dict[str, Any] = {"attack": "recovery", "threat_model": "before_edit"}
    curve = [share(rows, eps=eps, **where) for eps in load_suite("embedded").tasks[task].budgets["before_edit"]]
    assert curve == sorted(curve) and curve[0] < curve[-1]


def test_enough_is_suppressed_while_the_rest_is_kept(tmp_path: Path) -> None:
    """The clamp as it calibrates itself, on the task where keeping is hardest and the whole of its test split: at least
    40 suppressed examples from 30 clusters, 99 % of the retain set kept."""
    import json

    asked: dict[str, Any] = {"tasks": ["unlearning"], "attacks": ["zero"], "controls": False}
    result = evaluate("sae-clamp", output_dir=tmp_path / "run", **asked)
    hit = [r for r in result.rows.to_pylist() if r["suppressed"]]
    assert len(hit) >= 40 and len({r["cluster_id"] for r in hit}) >= 30
    fit = json.loads((result.directory / "fits" / "unlearning__sae-clamp.json").read_text())
    assert fit["utility"]["retained"] >= 0.99
