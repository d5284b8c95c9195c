"""The attack on the shipped probe task against the optimum in closed form, computed here without the engine.

The suite's site is the probe's own, so that after the edit the probe's logit is linear in the perturbation:
w . mean(delta) over the T tokens but BOS. The shortest perturbation that adds ``lacking`` to it lies along w at every
token and has the norm lacking * sqrt(T) / ||w||; in a null space, w is projected onto that first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmark.contracts.readout import SLACK
from benchmark.measure.group import Group
from benchmark.readouts.probe import Probe, probe_weights
from benchmark.run.cell import run_cell
from benchmark.run.groups import Undefended, make_group
from benchmark.run.plan import Cell
from benchmark.run.prepare import load_subject
from benchmark.run.task_view import TaskView, evenly
from benchmark.search.pack_size import PackSize
from benchmark.spec import resolve_attack, resolve_defense
from benchmark.suite_file import load_suite
from tests.tasks.suite_tasks import suite_task

SUITE = load_suite("embedded")
SETTINGS = SUITE.tasks["tpp"]
TASK = TaskView(suite_task("tpp"), "tpp")
assert isinstance(TASK.readout, Probe)
READOUT = TASK.readout
BUDGETS = (*SETTINGS.budgets["after_edit"], 0.2)
"""The suite's, and one within which every example can be recovered."""
CLAMP = {"strength": 1.0, "count": 12, "rate_ratio": 1.25}
"""A clamp that suppresses most of the task; given, so that nothing is calibrated."""
SITE = "blocks.3.hook_resid_post"
MOST = 40


class Shortest(NamedTuple):
    """Of an example, in closed form."""

    tokens: int
    weight: Tensor
    """Of the example's class (d_model,)."""
    free: float
    """Norm of the shortest perturbation that is enough."""
    encoder: float
    """The same of those that no protected latent's encoder sees."""


class Seen(NamedTuple):
    """Rows of the suppressed examples in one cell, and the perturbations."""

    rows: list[dict[str, Any]]
    deltas: Mapping[str, Tensor]


@pytest.fixture(scope="module")
def group() -> Group:
    subject = load_subject(SUITE, "cpu", "float32")
    assert SETTINGS.frozen is not None
    examples = evenly(TASK.examples("test"), 72)
    undefended = Undefended(subject, TASK, SETTINGS, SETTINGS.frozen, examples=examples)
    made = make_group(undefended, resolve_defense("sae-clamp", CLAMP))
    return replace(made, eligible=made.suppressed & (made.suppressed.cumsum(0) <= MOST))


@pytest.fixture(scope="module")
def encoder(group: Group) -> Tensor:
    """The protected latents' encoder columns (d_model, k), from the file."""
    (protected,) = group.fitted.protected
    weights = load_file(Path(group.subject.saes[SITE]) / "sae_weights.safetensors")
    return weights["W_enc"].double()[:, list(protected.latents)]


@pytest.fixture(scope="module")
def free(group: Group) -> Seen:
    return cell(group, "recovery", "none", restarts=1)


@pytest.fixture(scope="module")
def constrained(group: Group) -> Seen:
    return cell(group, "recovery", "encoder", restarts=1)


@pytest.fixture(scope="module")
def shortest(group: Group, free: Seen, encoder: Tensor) -> dict[str, Shortest]:
    weights, examples = probe_weights(group.subject, TASK, READOUT).weight.double(), group.place
    q, _ = torch.linalg.qr(encoder)
    found = {}
    for row in free.rows[:: len(BUDGETS)]:
        example = group.examples[examples[row["example_id"]]]
        ids = group.subject.tokenizer(example.prompt, add_special_tokens=False)["input_ids"]
        w = weights[:, example.answer]
        lacking = SLACK * row["margin_base"] - row["margin_defended"]  # up to what a search counts as reached
        norms = [lacking * math.sqrt(len(ids)) / float(v.norm()) for v in (w, w - q @ (q.T @ w))]
        found[example.id] = Shortest(len(ids), w, *norms)
    return found


def cell(group: Group, name: str, constraint: str, **options: Any) -> Seen:
    attack = resolve_attack(name, {"threat_model": "after_edit", "constraint": constraint, **options})
    found = run_cell(group, Cell("", "tpp", "sae-clamp", attack, BUDGETS), PackSize(256))
    return Seen([row.columns() for row in found.rows if row.outcome.suppressed], found.proposals)


def unit(tokens: int) -> float:
    """L2 norm of eps = 1."""
    assert SETTINGS.frozen is not None
    return SETTINGS.frozen.residual_norms["blocks.4.hook_resid_pre"] * math.sqrt(tokens)


def ratios(seen: Seen, shortest: Mapping[str, Shortest], which: str, against: str | None = None) -> list[float]:
    """Least norm found over the one in closed form, of every example; infinite where nothing was found."""
    least = {row["example_id"]: math.inf for row in seen.rows}
    for row in seen.rows:
        if row.get("min_eps") is not None:
            least[row["example_id"]] = min(least[row["example_id"]], row["min_eps"])
    assert all(getattr(shortest[name], which) <= BUDGETS[-1] * unit(shortest[name].tokens) for name in least)
    return [eps * unit((k := shortest[name]).tokens) / getattr(k, against or which) for name, eps in least.items()]


def at(seen: Seen, eps: float) -> Seen:
    return Seen([r for r in seen.rows if r["budget_eps"] == eps], seen.deltas)


def test_the_suite_attacks_this_task_where_the_probe_reads_it(group: Group, shortest: dict[str, Shortest]) -> None:
    assert READOUT.site == SETTINGS.site == SITE
    assert group.sites == (4,) and group.perturbed == "all"
    assert len(shortest) == MOST
    assert all(s.encoder <= BUDGETS[-1] * unit(s.tokens) for s in shortest.values()), "every example counts"


@pytest.mark.parametrize("which", ["free", "constrained"])
def test_the_margin_is_linear_in_what_is_added_after_the_edit(
    which: str, shortest: dict[str, Shortest], encoder: Tensor, request: pytest.FixtureRequest
) -> None:
    seen: Seen = request.getfixturevalue(which)
    for row in seen.rows:
        known = shortest[row["example_id"]]
        delta = seen.deltas[row["example_id"]][BUDGETS.index(row["budget_eps"]), 0].double()
        assert len(delta) == known.tokens
        assert float(delta.norm()) <= row["budget_eps"] * unit(known.tokens) * (1 + 1e-5)
        gained = float(delta.mean(0) @ known.weight)
        assert row["margin_attacked"] - row["margin_defended"] == pytest.approx(gained, rel=1e-3, abs=1e-3)
        if which == "constrained":
            leak = float((delta @ encoder).norm() / torch.linalg.matrix_norm(encoder, 2) / delta.norm())
            assert leak <= 1e-5


@pytest.mark.parametrize("which", ["free", "encoder"])
def test_the_attack_reaches_the_shortest_norm_within_five_percent_and_never_beats_it(
    which: str, free: Seen, constrained: Seen, shortest: dict[str, Shortest]
) -> None:
    found = ratios(free if which == "free" else constrained, shortest, which)
    print(f"{which}: n {len(found)}, median {median(found):.4f}, least {min(found):.5f}, most {max(found):.4f}")
    assert len(found) == MOST and min(found) >= 1 - 1e-3
    assert median(found) <= 1.01 and max(found) <= 1.05


def test_nothing_is_reached_within_a_budget_below_the_shortest_norm(
    free: Seen, constrained: Seen, shortest: dict[str, Shortest]
) -> None:
    for which, seen in (("free", free), ("encoder", constrained)):
        tight = [
            row
            for row in seen.rows
            if row["budget_eps"] * unit((known := shortest[row["example_id"]]).tokens) < getattr(known, which) * 0.999
        ]
        assert len(tight) >= MOST and all(row.get("min_eps") is None for row in tight)


def test_without_the_encoder_rows_the_closed_form_is_too_short_for_the_constrained_attack(
    constrained: Seen, shortest: dict[str, Shortest]
) -> None:
    wrong = ratios(constrained, shortest, "encoder", against="free")
    costs = {round(s.encoder / s.free, 4) for s in shortest.values()}
    print(
        f"constrained against the free form: median {median(wrong):.4f}, least {min(wrong):.4f}; "
        f"price of the constraint by class {sorted(costs)}"
    )
    assert median(wrong) > 1.05


def test_a_random_direction_needs_far_more(group: Group, shortest: dict[str, Shortest]) -> None:
    for which, constraint in (("free", "none"), ("encoder", "encoder")):
        seen = at(cell(group, "random-direction", constraint), BUDGETS[-1])
        needs = []
        for row in seen.rows:
            gained = row["margin_attacked"] - row["margin_defended"]  # of the best of eight draws
            lacking = SLACK * row["margin_base"] - row["margin_defended"]
            norm = row["delta_norm"] * lacking / gained if gained > 0 else math.inf
            needs.append(norm / getattr(shortest[row["example_id"]], which))
        print(f"random, {constraint}: n {len(needs)}, median {median(needs):.1f}, least {min(needs):.1f}")
        assert median(needs) > 10 and min(needs) > 5
