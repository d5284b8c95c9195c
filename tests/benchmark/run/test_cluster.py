"""A real Ray cluster on this machine: the same rows, also where a worker is killed, or another run is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UsageError
from benchmark.run import cluster, nodes
from benchmark.run.doctor import Check
from benchmark.run.listener import Silent
from benchmark.run.request import Request
from benchmark.run.runner import Result
from benchmark.terminal import SPIN
from tests.benchmark.run.work_to_do import deadly, run, same_bytes

ray = pytest.importorskip("ray")
OPTIONS: dict[str, Any] = {"executor": "ray", "workers": 2}


class Heard(Silent):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module", autouse=True)
def two_cores() -> Iterator[None]:
    """A cluster of this process, which all tests join; its machines know nothing of how long threads should spin."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv(SPIN[0], raising=False)  # a command that ran in this process has set it
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False)
        yield
        ray.shutdown()


def test_a_cluster_leaves_the_rows_of_one_process_also_if_a_worker_dies(
    alone: Result, options: dict[str, Any], tmp_path: Path
) -> None:
    more = {"defense": [*options["defense"], deadly(tmp_path, always=False)]}
    heard = Heard()
    result = run(options, tmp_path / "run", listener=heard, **more, **OPTIONS)
    assert result.status == "complete", result.failures
    assert any("a worker of the cluster is lost" in note for note in heard.notes)
    assert any(note.startswith("Ray: 2 workers of 1 CPU; the cluster has 2 CPU") for note in heard.notes)
    assert (tmp_path / "deadly.mark").read_text() == SPIN[1], "two threads beside other work do not end otherwise"
    mine, theirs = ([row for row in r.rows.to_pylist() if row["defense"] != "deadly"] for r in (result, alone))
    assert [row["margin_attacked"] for row in mine] == [row["margin_attacked"] for row in theirs]
    lines = map(json.loads, (result.directory / "events.jsonl").read_text().splitlines())
    assert len({event["worker"] for event in lines if event["event"] == "fitting"}) >= 2


def test_a_machine_without_the_files_says_which(options: dict[str, Any], tmp_path: Path) -> None:
    """The suite is read by who begins the run, and is gone when the workers look for it."""
    suite = tmp_path / "gone.yaml"
    suite.write_text(Path(options["suite"]).read_text())

    class Gone(Heard):
        def note(self, text: str) -> None:
            if text.startswith("Ray:"):
                suite.unlink()

    with pytest.raises(UsageError, match="gone.yaml"):
        run({**options, "suite": str(suite)}, tmp_path / "run", listener=Gone(), **OPTIONS)


class Busy:
    """Holds what it was given."""

    def hold(self) -> bool:
        return True


def test_who_waits_for_a_worker_says_why(
    alone: Result, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PENDING", 1.0)
    busy = ray.remote(num_cpus=2)(Busy).remote()
    assert ray.get(busy.hold.remote(), timeout=60)

    class Freeing(Heard):
        def note(self, text: str) -> None:
            super().note(text)
            if "no worker has begun yet" in text:
                ray.kill(busy)

    heard = Freeing()
    same_bytes(alone, run(options, tmp_path / "run", listener=heard, **OPTIONS))
    told = next(note for note in heard.notes if "no worker has begun yet" in note)
    assert "each asks for 1 CPU, free are nothing of 2 CPU; free some, or give fewer --workers" in told


EVALUATE = """
import json, sys
from pathlib import Path
import torch
from benchmark import evaluate
torch.set_num_threads(1)
evaluate(output_dir=Path(sys.argv[2]), **json.loads(sys.argv[1]))
"""


def elsewhere(options: dict[str, Any], folder: Path) -> subprocess.Popen[str]:
    """The run in a process of its own."""
    command = [sys.executable, "-c", EVALUATE, json.dumps(options), str(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_two_runs_share_a_cluster(alone: Result, options: dict[str, Any], tmp_path: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    other = elsewhere({**options, "executor": "ray", "workers": 2, "address": address}, tmp_path / "other")
    mine = run(options, tmp_path / "mine", executor="ray", workers=2)
    _, told = other.communicate(timeout=300)
    assert other.returncode == 0, told
    same_bytes(alone, mine)
    same_bytes(alone, Result(tmp_path / "other", "complete"))


def test_where_there_is_no_cluster_that_is_told(options: dict[str, Any], tmp_path: Path) -> None:
    other = elsewhere({**options, "executor": "ray", "address": "127.0.0.1:1"}, tmp_path / "run")
    _, told = other.communicate(timeout=300)
    assert other.returncode != 0 and "--address 127.0.0.1:1: no Ray cluster is there" in told


def test_doctor_asks_every_machine_of_a_cluster_itself(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(suite=options["suite"], executor="ray")
    cluster_, mine = [Check(*found) for found in nodes.machines(request)]
    assert cluster_.what == "Ray" and "1 machines with 2 CPU, of which 2 CPU free" in cluster_.evidence
    assert mine.ok and "the same versions, and everything at hand" in mine.evidence
    found = {"versions": {**nodes.answer(request).versions, "torch": "1.0"}}
    monkeypatch.setattr(nodes, "environment", lambda device: found)  # of this process, and not of the cluster's
    *_, mine = [Check(*found) for found in nodes.machines(request)]
    assert mine.ok is False and "here: 1.0" in mine.evidence and mine.remedy.startswith("install the same")
