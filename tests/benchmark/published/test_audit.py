"""The audit on a tiny world: pairs that measure, controls in which both sides agree, and a run under ``paper``."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from benchmark import Request, UsageError, evaluate
from benchmark.contracts.row import SCHEMA
from benchmark.published.audit.clamp import baked, last_iterate, smallest
from benchmark.published.audit.drift import first_row, vacuous
from benchmark.published.audit.figure import draw
from benchmark.published.audit.monitor import evade
from benchmark.published.audit.projection import gradient_only
from benchmark.published.audit.reading import NotShown, Reading
from benchmark.published.audit.run import Audit, audit, write
from benchmark.published.audit.table import difference, table
from benchmark.published.audit.workbench import Aimed, Workbench, measured, packs, under
from benchmark.published.switches import Switch
from benchmark.registry import TASKS
from benchmark.run.prepare import prepare
from benchmark.threats.soft_suffix import SoftSuffix
from leaderboard.board.aggregate import suite_board
from leaderboard.rows.run import read_run
from tests.tiny import ToyTask, suite_file

CLAMP = "defense: sae-clamp\nstrength: 3.0\ncount: 24\ncontrast: 0.0\nrate_ratio: 0.0\n"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The toy suite, whose own defense is a clamp that acts on a random model."""
    TASKS.register("toy")(ToyTask)
    folder = tmp_path_factory.mktemp("toy")
    (folder / "clamp.yaml").write_text(CLAMP)
    return str(suite_file(folder, defense=str(folder / "clamp.yaml")))


@pytest.fixture(scope="module")
def bench(suite: str) -> Workbench:
    return Workbench(suite, limit=16)


def holding(bench: Workbench, found: list[Aimed]) -> Any:
    """The workbench with other perturbations in the place of the study's."""
    return SimpleNamespace(choices=bench.choices, top=bench.top, free=found)


def test_the_leaky_projection_moves_what_the_exact_one_holds(bench: Workbench) -> None:
    span, pre, *_ = gradient_only(bench)
    assert span.strict is not None and span.strict < 1e-6 and span.paper is not None and span.paper > 0.02
    assert pre.strict is not None and pre.strict < 1e-3 < (pre.paper or 0)


def test_the_last_iterate_is_longer_than_what_is_enough(bench: Workbench) -> None:
    norm, _ = last_iterate(bench)
    assert norm.n > 0 and norm.difference is not None and norm.difference > 0
    assert norm.paper == pytest.approx(bench.top(bench.choices), rel=1e-3)


def test_of_a_perturbation_that_is_just_enough_both_report_the_same(bench: Workbench) -> None:
    enough = [Aimed(target, smallest(bench.choices, target, delta).delta) for target, delta in bench.free]
    norm, _ = last_iterate(holding(bench, enough))
    assert norm.n > 0 and norm.strict == pytest.approx(norm.paper, rel=0.02)


@pytest.mark.parametrize(("tolerance", "agree"), [(1e9, True), (1e-9, False)])
def test_recoveries_outside_their_constraint_count_or_not(bench: Workbench, tolerance: float, agree: bool) -> None:
    found = [Aimed(target._replace(tolerance=tolerance), delta) for target, delta in bench.free]
    groups = (bench.choices, under(Switch.INFEASIBLE_COUNTS, bench.choices))
    strict, paper = ([m.recovered for m in measured(group, found)] for group in groups)
    assert any(paper) and any(strict) is agree and (strict == paper) is agree


def test_orthogonal_perturbations_are_judged_alike_with_the_clamp_live_and_baked(bench: Workbench) -> None:
    margin, _, same, recovered = baked(bench)
    assert margin.paper is not None and margin.paper > (margin.strict or 0)
    assert same.n > 0 and same.strict == pytest.approx(same.paper, abs=1e-3) and recovered.difference == 0


def test_the_first_row_and_the_norm_that_is_near_zero(bench: Workbench) -> None:
    mean, largest = first_row(bench)
    assert mean.paper == pytest.approx(largest.paper, rel=1e-12) and (largest.strict or 0) >= (mean.strict or 0) > 0
    still, _ = first_row(holding(bench, [Aimed(target, 0 * delta) for target, delta in bench.free]))
    assert still.difference == pytest.approx(0, abs=5e-6)  # 1.06e-6 was seen: the rounding of a pass
    assert vacuous(bench)[1].paper == 0


def test_a_detached_score_has_no_slope_and_one_without_weight_no_effect(bench: Workbench) -> None:
    group = bench.choices
    target = SoftSuffix().aim(group, "none", "behavior", packs(group)[0])
    live, detached = (evade(group, target, 1.0, live=on) for on in (True, False))
    assert float(live.slope.max()) > 0 and float(detached.slope.max()) == 0
    assert float(live.score.mean()) < float(detached.score.mean())
    same = [evade(group, target, 1.0, live=on, weight=0.0) for on in (True, False)]
    assert torch.equal(same[0].score, same[1].score) and torch.equal(same[0].recovered, same[1].recovered)


def test_a_suite_that_cannot_show_a_pair_says_so(suite: str) -> None:
    found = audit(suite, limit=4, switches=["asymmetric-detectors"])
    assert found.readings == () and "what the model writes" in found.missing[0].why
    with pytest.raises(UsageError, match="unknown switch batch-1"):
        audit(suite, switches=["batch-1"])


def test_what_an_audit_leaves(tmp_path: Path) -> None:
    readings = (
        Reading(Switch.BAKED_CLAMP, "recovered", "share", 0.5, 0.5, 8, "toy"),
        Reading(Switch.VACUOUS_DRIFT, "relative drift", "share", 0.5, 2e7, 8, "toy"),
        Reading(Switch.LAST_ITERATE, "norm", "eps", None, None, 0, "toy"),
    )
    found = Audit("toy", "tiny", "0", 8, readings, (NotShown(Switch.SKETCH_PROJECTION, "no texts"),), 1.0, {})
    assert [difference(r) for r in readings] == ["none", "+2.0e+07", "-"]
    written = json.loads(write(found, tmp_path / "deep").read_text())
    assert written["readings"][0]["difference"] == 0 and written["not_shown"][0]["why"] == "no texts"
    with (tmp_path / "out").open("w") as out:
        Console(width=200, file=out).print(table(found))
    assert "none" in (tmp_path / "out").read_text()
    pytest.importorskip("matplotlib")
    assert all(p.stat().st_size > 1000 for p in draw(found, tmp_path))


def test_a_run_under_paper_says_so_and_is_never_ranked(suite: str, tmp_path: Path) -> None:
    asked = {"suite": suite, "attacks": ["recovery"], "limit": 8, "controls": False}
    run = evaluate(**asked, output_dir=tmp_path / "paper", protocol="paper")
    manifest, plan = (json.loads((run.directory / name).read_text()) for name in ("run.json", "plan.json"))
    assert (manifest["protocol"], manifest["ranked"]) == ("paper", False)
    rows = run.rows.to_pylist()
    attacks = {(r["attack"], r["threat_model"]) for r in rows if r["goal"] == "behavior" and r["status"] == "ok"}
    assert ("paper-recovery", "after_edit") in attacks and not any(a == "recovery" for a, _ in attacks)
    assert any(r["paper_drift_abs"] is not None for r in rows) and not [n for n in SCHEMA.names if "paper" in n]
    strict = prepare(Request.make(asked)).plan
    assert not {cell["key"] for cell in plan["cells"]} & {cell.key for cell in strict.cells}
    entry = suite_board([read_run(run.directory)], resamples=20).entries[0]
    assert entry.verdict.status == "unranked" and any("paper" in reason for reason in entry.verdict.reasons)
