"""The audit on a tiny world: pairs that measure, controls in which both sides agree, and a run under ``paper``."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from benchmark import UsageError, evaluate
from benchmark.audit.clamp import baked, last_iterate
from benchmark.audit.drift import first_row, vacuous
from benchmark.audit.figure import draw
from benchmark.audit.monitor import evade
from benchmark.audit.projection import gradient_only
from benchmark.audit.reading import NotShown, Reading
from benchmark.audit.run import Audit, audit, write
from benchmark.audit.table import difference, table
from benchmark.audit.workbench import Found, attack, packs, search
from benchmark.cells.aim import aim
from benchmark.cells.group import Group
from benchmark.cells.remeasure import _within_tolerance
from benchmark.model.passes import FullPass
from benchmark.protocol import Switch
from benchmark.registry import TASKS
from benchmark.run.fitting import groups
from benchmark.run.prepare import prepare
from benchmark.search.minimal_norm import minimal_norm
from benchmark.search.oracle import select
from leaderboard.aggregate import leaderboard, read_run
from tests.tiny import ToyTask, suite_file
from tests.toy_run import DEFENSE

EPS = 0.3


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    TASKS.register("toy")(ToyTask)
    return str(suite_file(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="module")
def group(suite: str) -> Group:
    return next(g for _, g in groups(prepare(DEFENSE, suite=suite, controls=False)))


@pytest.fixture(scope="module")
def bench(group: Group) -> Any:
    """A workbench with the tiny group in every place."""
    settings = SimpleNamespace(suffix_budgets=(1.0,), budgets=(EPS,))
    return SimpleNamespace(
        choices=group,
        text=group,
        free=search(group, attack("paper-recovery", steps=20), EPS),
        anchored=search(group, attack("recovery", threat_model="after_edit", restarts=1), EPS),
        suite=SimpleNamespace(tasks={"toy": settings}),
        top=lambda _: EPS,
        middle=lambda _: EPS,
    )


def test_the_leaky_projection_moves_what_the_exact_one_holds(bench: Any) -> None:
    span, pre, *_ = gradient_only(bench)
    assert span.strict is not None and span.strict < 1e-6 and span.paper is not None and span.paper > 0.02
    assert pre.strict is not None and pre.strict < 1e-3 < (pre.paper or 0)


def test_the_last_iterate_is_longer_than_what_is_enough(bench: Any) -> None:
    norm, _ = last_iterate(bench)
    assert norm.n > 0 and norm.difference is not None and norm.difference > 0
    assert norm.paper == pytest.approx(EPS, rel=1e-3)


def test_of_a_perturbation_that_is_just_enough_both_report_the_same(bench: Any, group: Group) -> None:
    def just_enough(found: Found) -> Found:
        run = FullPass(group.subject, found.target.pack, group.edits, found.target.writes)

        def reaches(delta: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return group.task.verdict(run(delta, rows).read, select(found.target.batch, rows)).margin > 0

        return found._replace(delta=minimal_norm(found.delta, reaches, 10).delta)

    shortened: Any = SimpleNamespace(**{**vars(bench), "free": [just_enough(found) for found in bench.free]})
    norm, _ = last_iterate(shortened)
    assert norm.n > 0 and norm.strict == pytest.approx(norm.paper, rel=0.02)


@pytest.mark.parametrize(("drift", "agree"), [(0.02, True), (0.5, False)])
def test_infeasible_recoveries_count_or_not(drift: float, agree: bool) -> None:
    row: dict[str, object] = {"drift_abs": drift, "drift_rel": drift, "recovered": True, "outcome": "recovered"}
    strict, paper = (_within_tolerance(row, 0.03, 1.0, counts)["recovered"] for counts in (False, True))
    assert paper and (strict == paper) is agree


def test_orthogonal_perturbations_are_judged_alike_with_the_clamp_live_and_baked(bench: Any) -> None:
    margin, _, same, recovered = baked(bench)
    assert margin.paper is not None and margin.paper > (margin.strict or 0)
    assert same.n > 0 and same.strict == pytest.approx(same.paper, abs=1e-3) and recovered.difference == 0


def test_the_first_row_and_the_norm_that_is_near_zero(bench: Any) -> None:
    mean, largest = first_row(bench)
    assert mean.paper == largest.paper and (largest.strict or 0) >= (mean.strict or 0) > 0
    one = [found._replace(target=found.target, delta=found.delta * 0) for found in bench.free]
    still_bench: Any = SimpleNamespace(**{**vars(bench), "free": one})
    still, _ = first_row(still_bench)
    assert still.difference == pytest.approx(0, abs=1e-6)
    undefined = vacuous(bench)[1]
    assert undefined.paper == 0


def test_a_detached_score_has_no_slope_and_one_without_weight_no_effect(group: Group) -> None:
    target = aim(group, attack("soft-suffix"), packs(group)[0])
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
    strict, paper = (
        evaluate(DEFENSE, suite=suite, output_dir=tmp_path / name, attacks=["recovery"], limit=8, protocol=name)
        for name in ("strict", "paper")
    )
    manifest = json.loads((paper.directory / "run.json").read_text())
    assert manifest["protocol"] == "paper"
    rows = paper.rows.to_pylist()
    attacks = {(r["attack"], r["threat_model"]) for r in rows if r["goal"] == "behavior" and r["status"] == "ok"}
    assert ("paper-recovery", "after_edit") in attacks and not any(a == "recovery" for a, _ in attacks)
    assert any(r["paper_drift_abs"] is not None for r in rows)
    assert all(r["paper_drift_abs"] is None for r in strict.rows.to_pylist())
    keys = [{c["key"] for c in json.loads((r.directory / "plan.json").read_text())["cells"]} for r in (strict, paper)]
    assert not keys[0] & keys[1]
    entry = leaderboard([read_run(paper.directory)], resamples=20).entries[0]
    assert entry.verdict.status == "unranked" and any("paper" in reason for reason in entry.verdict.reasons)
