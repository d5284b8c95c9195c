"""Several processes leave what one leaves; one that dies costs time, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import UsageError
from benchmark.run import executors as choose
from benchmark.run import runner
from benchmark.run.crew import TRIES, Crew
from benchmark.run.executor import Done
from benchmark.run.processes import Processes
from benchmark.run.request import Request
from benchmark.run.runner import Result
from benchmark.run.work import Job, Work
from benchmark.run.worker import Orders, Worker
from tests.benchmark.run.work_to_do import deadly, run, same_bytes


@pytest.fixture(scope="module")
def together(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(options, tmp_path_factory.mktemp("together") / "run", workers=2)


def events(result: Result, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (result.directory / "events.jsonl").read_text().splitlines())
    return [event for event in lines if event["event"] == kind]


class Noted:
    """An executor that does nothing."""

    busy = False

    def __init__(self, apart: bool) -> None:
        self.apart, self.begun = apart, list[str]()

    def submit(self, job: Job) -> None:
        self.begun.append(job.task)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("apart", "order"), [(True, ["written", "read", "probe"]), (False, ["read", "written", "probe"])]
)
def test_several_workers_begin_with_what_takes_longest(
    apart: bool, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = Noted(apart)
    monkeypatch.setattr(runner, "Work", lambda *_: None)
    monkeypatch.setattr(runner, "chosen", lambda _: noted)
    tasks = {
        name: SimpleNamespace(readout=SimpleNamespace(writes_text=name == "written"))
        for name in ("read", "written", "probe")
    }
    prepared: Any = SimpleNamespace(plan=SimpleNamespace(tasks=tasks, cells=()), subject=None)
    runner._Run(prepared, SimpleNamespace(), SimpleNamespace())._jobs()  # type: ignore[arg-type]
    assert noted.begun == order


def test_two_workers_leave_the_rows_of_one(alone: Result, together: Result) -> None:
    same_bytes(alone, together)
    fits = [sorted(file.name for file in (r.directory / "fits").iterdir()) for r in (alone, together)]
    assert fits[0] == fits[1] and len(fits[0]) == 2


def test_both_have_worked_and_nothing_was_fitted_twice(together: Result) -> None:
    fitted = [(event["task"], event["defense"]) for event in events(together, "fitting")]
    assert len(fitted) == len(set(fitted)) == 2
    assert len({event["worker"] for event in events(together, "fitting")}) == 2


def test_what_it_took_is_put_together(alone: Result, together: Result) -> None:
    took = [json.loads((r.directory / "run.json").read_text())["took"] for r in (alone, together)]
    assert took[0]["rows"] == took[1]["rows"] and took[0]["forwards"] == took[1]["forwards"]
    assert all(sum(kinds.values()) > 0 for kinds in took[1]["seconds"].values())


def test_a_worker_that_dies_costs_no_row(alone: Result, options: dict[str, Any], tmp_path: Path) -> None:
    more = {"defense": [*options["defense"][:1], deadly(tmp_path, always=False)]}
    result = run(options, tmp_path / "run", workers=2, **more)
    assert result.status == "complete" and result.failures == ()
    tries = [event for event in events(result, "fitting") if event["defense"] == "deadly"]
    assert len(tries) == 2 and len({event["worker"] for event in tries}) == 2
    mine, theirs = ([row for row in r.rows.to_pylist() if row["defense"] == "soft"] for r in (result, alone))
    assert mine and [row["margin_attacked"] for row in mine] == [row["margin_attacked"] for row in theirs]


def test_who_kills_every_worker_is_failed_and_nobody_else(options: dict[str, Any], tmp_path: Path) -> None:
    more = {"defense": [options["defense"][0], deadly(tmp_path, always=True)]}
    result = run(options, tmp_path / "run", workers=2, **more)
    assert result.status == "partial" and result.failed > 0
    (told,) = result.failures
    assert told.startswith(f"deadly on ioi: {TRIES} workers were lost over it") and "ended with -9" in told
    assert {row["defense"] for row in result.rows.to_pylist()} == {"soft"}


def test_what_was_begun_by_several_goes_on_with_one(together: Result, options: dict[str, Any]) -> None:
    cells = sorted((together.directory / "cells").glob("*.parquet"))
    before = together.rows
    cells[0].unlink()
    again = run(options, together.directory)
    assert again.rows.drop_columns(["seconds"]).equals(before.drop_columns(["seconds"]))


def test_objects_of_this_process_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    from defenses.sae_clamp import SaeClamp

    class Mine(SaeClamp):
        """Nobody else has it."""

    with pytest.raises(UsageError, match="give it as file.py:Class or as a spec"):
        run({**options, "defense": Mine()}, tmp_path / "run", workers=2)


class Far(Crew[str]):
    """An executor whose only worker does not see the run directory."""

    apart = True

    def __init__(self, work: Work) -> None:
        orders = choose._orders(work, "cpu", None)
        self.worker = Worker(orders._replace(mark="nobody wrote this"))
        super().__init__(work.store, work.plan)

    def wait(self) -> Sequence[Done]:
        for name, job in self.for_idle(["far"]):
            return [self.over(name, self.worker.do(job, self.known(job)))]
        return []

    def close(self) -> None:
        self.worker.close()


def test_where_there_is_no_shared_folder_results_are_sent_back(
    alone: Result, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "chosen", Far)
    result = run(options, tmp_path / "run")
    same_bytes(alone, result)
    assert events(result, "fitting"), "what happened there is told here"
    private = [sorted(file.name for file in (r.directory / "private").iterdir()) for r in (alone, result)]
    assert private[0] == private[1]
    cell = sorted((result.directory / "cells").glob("*.parquet"))[0]
    cell.unlink()
    same_bytes(alone, run(options, tmp_path / "run"))


def test_a_worker_with_another_plan_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    request = Request.make(options)
    with pytest.raises(UsageError, match="makes another plan of this request"):
        Worker(Orders(request, "another", str(tmp_path), "", None))


def test_a_worker_that_dies_idle_is_replaced(
    options: dict[str, Any], alone: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when both are ready, before any has a job."""
    killed: list[int] = []
    whole = Processes.submit

    def submit(self: Processes, job: Job) -> None:
        while len(self._ready) < 2:
            self.wait()
        if not killed:
            process = self._processes[self._ready[0]]
            killed.append(process.pid or 0)
            process.kill()
            process.join()
        whole(self, job)

    monkeypatch.setattr(Processes, "submit", submit)
    result = run(options, tmp_path / "run", workers=2)
    assert killed
    same_bytes(alone, result)


def prepared(kind: str, **asked: Any) -> Any:
    request = Request.make(asked)
    return SimpleNamespace(request=request, subject=SimpleNamespace(device=SimpleNamespace(type=kind)))


def test_there_is_a_worker_for_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from defenses.sae_clamp import SaeClamp

    monkeypatch.setattr(choose.torch.cuda, "device_count", lambda: 3)
    devices = choose._devices
    assert devices(prepared("cuda")) == ["cuda:0", "cuda:1", "cuda:2"]
    assert devices(prepared("cuda", workers=2)) == ["cuda:0", "cuda:1"]
    assert devices(prepared("cuda", device="cuda:1")) == ["cuda:1"]
    assert devices(prepared("cpu")) == ["cpu"] and devices(prepared("cpu", workers=2)) == ["cpu", "cpu"]
    assert len(devices(prepared("cuda", defense=SaeClamp()))) == 1, "an object is of this process"
    with pytest.raises(UsageError, match="this machine has 3 GPUs"):
        devices(prepared("cuda", workers=4))
