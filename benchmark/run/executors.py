"""Where the jobs of a run are done: in this process, in several of this machine, or on a Ray cluster.

All of them do the same work on the same plan and leave the same files, so that a run that was begun by one goes on by
another. A job is a defense on a task with all its cells: a defense is fitted once, where it is attacked.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import torch

from benchmark.contracts.defense import Defense
from benchmark.errors import UsageError
from benchmark.run.executor import Executor
from benchmark.run.here import Here
from benchmark.run.pack_rows import CPU_ROWS
from benchmark.run.prepare import Prepared
from benchmark.run.request import Request
from benchmark.run.work import Work
from benchmark.run.worker import Orders


def chosen(work: Work) -> Executor:
    """Where the jobs of a run are done.

    Raises:
        UsageError: it cannot be had here, or the request cannot be sent to another process.
    """
    request = work.prepared.request
    if request.executor == "ray":
        from benchmark.run.cluster import Cluster

        return Cluster(
            _orders(work, None, None), request.address, request.workers, work.store, work.plan, work.listener.note
        )
    devices = _devices(work.prepared)
    if len(devices) == 1:
        return Here(work)
    from benchmark.run.processes import Processes

    threads = None if work.subject.device.type == "cuda" else max(1, torch.get_num_threads() // len(devices))
    return Processes([_orders(work, device, threads) for device in devices], work.store, work.plan)


def _devices(prepared: Prepared) -> list[str]:
    """Of each worker."""
    request, kind = prepared.request, prepared.subject.device.type
    asked = 1 if request.workers is None and _objects(request) else request.workers
    if kind != "cuda" or request.device != "auto":
        return [request.device if kind != "cpu" else "cpu"] * (asked or 1)
    count = torch.cuda.device_count()
    if asked is not None and asked > count:
        raise UsageError(f"--workers {asked}: this machine has {count} GPUs, one a worker; give at most that many")
    return [f"cuda:{i}" for i in range(asked or count)]


def _objects(request: Request) -> list[Defense]:
    """Defenses that were made in this process, and in no other."""
    return [one for one in request.defense or () if isinstance(one, Defense)]


def _orders(work: Work, device: str | None, threads: int | None) -> Orders:
    """What every worker is told; the run directory gets a line by which it is known."""
    request, prepared = work.prepared.request, work.prepared
    mine = _objects(request)
    if mine:
        raise UsageError(
            f"{type(mine[0]).__name__} is an object of this process: other workers cannot make it again; give it as "
            "file.py:Class or as a spec, or leave --workers and --executor out"
        )
    mark = uuid.uuid4().hex
    work.store.event("workers", mark=mark)
    changed: dict[str, object] = {"device": device or request.device, "workers": 1, "executor": "local"}
    if prepared.subject.device.type == "cpu":  # where memory was the limit, workers share it
        few = prepared.rows if prepared.rows == CPU_ROWS else max(1, prepared.rows // (request.workers or 1))
        changed["batch_size"] = request.batch_size or few
    return Orders(
        request.model_copy(update=changed),
        work.plan.identity,
        str(Path(work.store.root).resolve()),
        mark,
        threads,
    )
