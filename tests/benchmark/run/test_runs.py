"""Whole runs on a tiny world: what a row's numbers may depend on, and what an interruption may cost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from benchmark import Defense, FittedDefense, Fitting, RunDirectoryError, Site, UsageError, evaluate
from benchmark.contracts.row import SCHEMA, SCHEMA_VERSION
from benchmark.model.tail import TailPass
from benchmark.run.prepare import prepare
from benchmark.run.request import Request
from benchmark.run.store import PERTURBATIONS, Store
from tests.benchmark.run.equal_rows import same_results
from tests.tiny import SITE, ToyTask
from tests.toy_run import DEFENSE, FEW


@pytest.fixture(scope="module")
def whole(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One uninterrupted run, that others are compared with."""
    return evaluate(DEFENSE, suite=suite, output_dir=tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def few(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same with few cells, for interruptions."""
    return evaluate(DEFENSE, suite=suite, output_dir=tmp_path_factory.mktemp("few") / "run", **FEW)


def select(result: Any, **where: Any) -> list[dict[str, Any]]:
    return [r for r in result.rows.to_pylist() if all(r[k] == v for k, v in where.items())]


def test_every_cell_has_every_example_at_every_budget(whole: Any) -> None:
    plan = json.loads((whole.directory / "plan.json").read_text())
    assert whole.status == "complete"
    assert whole.rows.num_rows == sum(ToyTask.sizes["test"] * len(cell["budgets"]) for cell in plan["cells"])


def test_the_world_is_neither_trivial_nor_hopeless(whole: Any) -> None:
    rows = select(whole, defense="sae-clamp", attack="recovery", sanity=False)
    outcomes = {r["outcome"] for r in rows}
    assert outcomes == {None, "never_suppressed", "held", "recovered"}


def test_zero_budget_recovers_nothing(whole: Any) -> None:
    rows = select(whole, attack="zero", defense="sae-clamp", suppressed=True)
    assert rows and not any(r["recovered"] for r in rows)
    assert all(
        r["drift_abs"] <= 1e-4 and r["margin_attacked"] == pytest.approx(r["margin_defended"], abs=1e-4) for r in rows
    )


def test_none_suppresses_nothing(whole: Any) -> None:
    rows = select(whole, defense="none", eligible=True)
    assert rows and {r["outcome"] for r in rows} == {"never_suppressed"}


def test_a_wrong_target_is_not_there_before_the_attack(whole: Any) -> None:
    rows = select(whole, attack="wrong-target", threat_model="before_edit")
    attacked = [r for r in rows if r["status"] == "ok"]
    assert attacked and not any(r["delta_norm"] == 0 and r["recovered"] for r in attacked)


def test_the_encoder_constraint_keeps_the_protected_latents(whole: Any) -> None:
    held = [r for r in select(whole, attack="recovery", constraint="encoder") if r["status"] == "ok"]
    free = [r for r in select(whole, attack="recovery", constraint="none") if r["status"] == "ok" and r["recovered"]]
    assert held and all(r["drift_pre_abs"] <= 1e-4 * r["delta_norm"] + 1e-4 for r in held)
    assert any(r["drift_pre_abs"] > 1e-2 * r["delta_norm"] for r in free), "a free perturbation does move them"


def test_recovered_means_a_positive_margin_within_budget(whole: Any) -> None:
    for r in whole.rows.to_pylist():
        if r["status"] == "ok":
            assert r["recovered"] == (r["margin_attacked"] > 0)
            assert r["delta_norm"] <= r["budget_abs"] * (1 + 1e-4) and r["budget_abs"] >= 0
            assert not {"constraint-violated", "budget-violated"} & set(r["flags"])


def test_parquet_carries_types_and_version(whole: Any) -> None:
    assert whole.rows.schema.names == SCHEMA.names
    assert whole.rows.schema.metadata[b"recoverybench.schema_version"] == str(SCHEMA_VERSION).encode()


def test_rows_do_not_depend_on_the_pack(few: Any, suite: str, tmp_path: Path) -> None:
    same_results(few, evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", batch_size=3, **FEW))


def test_rows_do_not_depend_on_the_memory_that_is_free(
    few: Any, suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.run.pack_rows.free_bytes", lambda device: 200_000)
    prepared = prepare(Request.make({"defense": DEFENSE, "suite": suite}))
    assert 1 <= prepared.rows < 8
    same_results(few, evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", **FEW))


def test_rows_survive_running_out_of_memory(
    few: Any, suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = TailPass.__call__

    def scarce(self: Any, delta: Any, rows: Any, *rest: Any) -> Any:
        if len(rows) > 5:
            raise torch.OutOfMemoryError("forced")
        return plain(self, delta, rows, *rest)

    monkeypatch.setattr(TailPass, "__call__", scarce)
    same_results(few, evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", **FEW))
    assert "pack-halved" in (tmp_path / "run" / "events.jsonl").read_text()


def test_the_full_pass_gives_the_same_rows(
    whole: Any, suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.run.groups.tail_is_exact", lambda *_: False)
    same_results(whole, evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run"))


def test_a_killed_run_is_resumed_and_ends_the_same(few: Any, suite: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.toy_run", suite, str(tmp_path / "run")]
    killed = subprocess.run([*command, "4"], capture_output=True, cwd=Path(__file__).parents[3])
    assert killed.returncode == -9
    saved = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "cells").glob("*.parquet")}
    assert len(saved) == 4 and json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    again = evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", **FEW)
    same_results(few, again)
    assert '"last": "running"' in (tmp_path / "run" / "events.jsonl").read_text(), "that it was killed is noted"
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "cells").glob("*.parquet")}
    assert all(kept[name] == time for name, time in saved.items()), "finished cells are not run again"


def test_ctrl_c_saves_and_says_so(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.run import work

    plain, calls = work.run_cell, []

    def interrupted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*args, **options)

    monkeypatch.setattr(work, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", **FEW)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert len(list((tmp_path / "run" / "cells").iterdir())) == 2


def test_a_directory_of_another_plan_is_refused_untouched(whole: Any, suite: str) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in whole.directory.rglob("*") if p.name != ".lock")
    with pytest.raises(RunDirectoryError, match="another plan"):
        evaluate(DEFENSE, suite=suite, output_dir=whole.directory, seed=1)
    assert before == sorted((p, p.stat().st_mtime_ns) for p in whole.directory.rglob("*") if p.name != ".lock")


def test_a_directory_of_something_else_is_refused(suite: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="thesis.tex"):
        evaluate(DEFENSE, suite=suite, output_dir=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_directory_in_use_is_refused(whole: Any, suite: str) -> None:
    held = Store(whole.directory).open(json.loads((whole.directory / "plan.json").read_text()))
    try:
        with pytest.raises(RunDirectoryError, match="in use"):
            evaluate(DEFENSE, suite=suite, output_dir=whole.directory)
    finally:
        held.close()


def test_a_full_disk_is_one_clear_error_and_loses_nothing(
    few: Any, suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, written = os.replace, []

    def full(source: Any, target: Any) -> None:
        if str(target).endswith(".parquet"):
            written.append(target)
            if len(written) > 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        plain(source, target)

    monkeypatch.setattr("benchmark.files.os.replace", full)
    with pytest.raises(RunDirectoryError, match="disk is full.*resume"):
        evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", **FEW)
    assert not list((tmp_path / "run").rglob("*.part"))
    monkeypatch.setattr("benchmark.files.os.replace", plain)
    same_results(few, evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", **FEW))


def test_what_is_damaged_is_made_again_and_said(few: Any, suite: str, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(few.directory, tmp_path / "run")
    cells, private = (sorted((tmp_path / "run" / folder).iterdir()) for folder in ("cells", "private"))
    named = {cell: pq.read_schema(cell).metadata[PERTURBATIONS].decode() for cell in cells}
    lost = next(file for file in private if file.stem not in ("", named[cells[0]]))
    again_run = {cells[0].stem, *(cell.stem for cell, digest in named.items() if digest == lost.stem)}
    damaged = [cells[0], lost, *(tmp_path / "run" / "fits").iterdir()]
    for victim in damaged:
        victim.write_bytes(b"neither of it")
    (tmp_path / "run" / "run.json").write_text("[]")
    again = evaluate(DEFENSE, suite=suite, output_dir=tmp_path / "run", **FEW)
    same_results(few, again)
    told = (tmp_path / "run" / "events.jsonl").read_text()
    assert all(victim.name in told for victim in damaged[:2])
    kept = {p.name: p.stat().st_mtime_ns for p in cells if p.stem not in again_run}
    assert kept == {name: (few.directory / "cells" / name).stat().st_mtime_ns for name in kept}, "and nothing else"
    card = json.loads(damaged[-1].read_text())
    assert card["defense"] == "sae-clamp"


def test_a_defense_written_as_a_plain_function_works(suite: str, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Negate(Defense):
        name = "negate"

        def fit(self, fitting: Fitting) -> FittedDefense:
            return FittedDefense({Site.parse(SITE): lambda h, where: -h})

    result = evaluate(Negate(), suite=suite, output_dir=tmp_path / "run", **FEW)
    attacked = select(result, defense="negate", attack="recovery", constraint="none", status="ok")
    assert attacked and all(r["drift_abs"] is None for r in attacked), "it protects no features"
    impossible = select(result, defense="negate", constraint="encoder", suppressed=True)
    assert all(r["status"] == "not_run" and "protects no features" in r["error"] for r in impossible)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": ["toyy"]}, "Did you mean 'toy'"),
        ({"attacks": ["recovry"]}, "Did you mean 'recovery'"),
        ({"defense": "sae-clam"}, "Did you mean 'sae-clamp'"),
        ({"suite": "embeded"}, "Did you mean 'embedded'"),
        ({"dtype": "float8"}, "float32"),
        ({"device": "cuda:9" if not torch.cuda.is_available() else "gpu"}, "device"),
        ({"tasks": ["ioi"]}, "has no task ioi"),
    ],
)
def test_what_does_not_exist_is_named_before_any_work(
    suite: str, tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(**{"defense": DEFENSE, "suite": suite, "output_dir": tmp_path / "run", **wrong})
    assert not (tmp_path / "run").exists()
