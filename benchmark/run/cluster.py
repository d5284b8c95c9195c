"""A Ray cluster: an actor a GPU, or a number of cores where there is none; Ray Core alone.

Ray Data is not used: it makes batches of its own and owns their order. An actor that is lost is not restarted by Ray:
another is made, and its job is done again, as with processes of one machine.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from benchmark.errors import UsageError
from benchmark.run.crew import Crew
from benchmark.run.executor import Done
from benchmark.run.plan import Plan
from benchmark.run.store import Store
from benchmark.run.work import Job, Outcome
from benchmark.run.worker import Orders, Worker
from benchmark.terminal import SPIN

PATIENCE = 2.0
"""Seconds after which whoever waits is told that nothing is over yet."""
PENDING = 60.0
"""Seconds after which it is said why no worker begins."""
BACK = 300.0
"""Seconds that a result may take to come back; after that its worker counts as lost."""
BEGIN = 1800.0
"""Seconds that a worker may take to fetch and load the model."""

Tell = Callable[[str], None]


class Cluster(Crew[Any]):
    """Workers that are Ray actors."""

    apart = True

    def __init__(
        self, orders: Orders, address: str | None, workers: int | None, store: Store, plan: Plan, tell: Tell
    ) -> None:
        """Join a cluster, or begin one on this machine.

        Raises:
            UsageError: Ray is missing, or there is no cluster at the address.
        """
        self._ray, self._tell, self._orders = ray_here(), tell, orders
        self._begun_here = join(self._ray, address)
        super().__init__(store, plan)
        self._actors: list[Any] = []
        self._pending: dict[Any, tuple[Any, float]] = {}
        """What an actor is to be ready by -> the actor, and since when it is waited for."""
        self._running: dict[Any, Any] = {}
        """What a job comes back by -> the actor."""
        self._asked, count = self._resources(workers)
        tell(f"Ray: {count} workers of {said(self._asked)}; the cluster has {said(self._ray.cluster_resources())}")
        for _ in range(count):
            self._begin()

    def _resources(self, workers: int | None) -> tuple[dict[str, float], int]:
        """What a worker asks for, and how many: one a GPU, else one a machine, with the cores of the least."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        if gpus and self._orders.request.device != "cpu":
            return {"GPU": 1.0, "CPU": 1.0}, workers or gpus
        cores = [int(node["CPU"]) for node in nodes if node.get("CPU")] or [1]
        count = workers or len(cores)
        return {"CPU": float(max(1, min(cores) // -(-count // len(cores))))}, count

    def _begin(self) -> None:
        options: dict[str, Any] = {"num_cpus": self._asked["CPU"], "num_gpus": self._asked.get("GPU", 0)}
        options["runtime_env"] = {"env_vars": {SPIN[0]: os.environ.get(*SPIN)}}
        threads = None if "GPU" in self._asked else int(self._asked["CPU"])
        kind = self._ray.remote(max_restarts=0, max_task_retries=0, **options)(_Actor)
        actor = kind.remote(self._orders._replace(threads=threads))
        self._pending[actor.ready.remote()] = actor, time.monotonic()

    def wait(self) -> Sequence[Done]:
        for actor, job in self.for_idle(self._actors):
            self._running[actor.do.remote(job, self.known(job))] = actor
        waited = [*self._pending, *self._running]
        over, _ = self._ray.wait(waited, num_returns=1, timeout=PATIENCE)
        done: list[Done] = []
        for one in over:
            done += self._over(one)
        self._say_why()
        return done

    def _over(self, one: Any) -> list[Done]:
        """A worker that is ready, a job that is done, or a worker that is lost."""
        errors = self._ray.exceptions
        try:
            found = self._ray.get(one, timeout=BACK)
        except errors.RayTaskError as error:
            raise _told(error) from error
        except (errors.RayActorError, errors.GetTimeoutError) as error:
            return self._gone(one, str(error).splitlines()[0])
        if one in self._pending:
            self._actors.append(self._pending.pop(one)[0])
            return []
        assert isinstance(found, Outcome)
        return [self.over(self._running.pop(one), found)]

    def _gone(self, one: Any, why: str) -> list[Done]:
        if one in self._pending:
            raise UsageError(f"a worker of the cluster could not begin: {why}; give it more memory, or fewer --workers")
        actor = self._running.pop(one)
        self._actors.remove(actor)
        self._tell(f"a worker of the cluster is lost ({why}); its job goes to another")
        self._begin()
        return self.gone(actor, why)

    def _say_why(self) -> None:
        """What is asked and what is free, where a worker does not begin.

        Raises:
            UsageError: it did not in all the time that it may take.
        """
        now = time.monotonic()
        for one, (actor, since) in list(self._pending.items()):
            if now - since > BEGIN:
                raise UsageError(
                    f"a worker of the cluster did not begin in {BEGIN:g} s: try again later; {self._why()}"
                )
            if now - since > PENDING and not self._actors:
                self._tell(f"no worker has begun yet: {self._why()}")
                self._pending[one] = actor, now
                break

    def _why(self) -> str:
        return (
            f"each asks for {said(self._asked)}, free are {said(self._ray.available_resources())} of "
            f"{said(self._ray.cluster_resources())}; free some, or give fewer --workers"
        )

    def close(self) -> None:
        with suppress(Exception):  # a cluster that is gone has no actors
            for actor in [*self._actors, *(actor for actor, _ in self._pending.values())]:
                self._ray.kill(actor)
        if self._begun_here:
            self._ray.shutdown()


class _Actor:
    """A worker on some machine of the cluster."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._worker: Worker | None = None

    def ready(self) -> bool:
        """Load the model; what is missing is told here, where an error has its own words."""
        self._worker = Worker(self._orders)
        return True

    def do(self, job: Job, known: Mapping[str, bytes]) -> Outcome:
        assert self._worker is not None, "it was ready"
        return self._worker.do(job, {} if self._worker.shares else known)


def ray_here() -> Any:
    """Ray, if it is installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError("--executor ray needs Ray: pip install 'recoverybench[ray]'") from error
    return ray


def join(ray: Any, address: str | None) -> bool:
    """Join the cluster at an address; None: begin one on this machine, which ends with the run.

    Raises:
        UsageError: there is none.
    """
    if ray.is_initialized():
        return False
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        _reach(address)
        ray.init(address=address, **(quiet if address is None else {"log_to_driver": False, "logging_level": "ERROR"}))
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UsageError(
            f"--address {address}: no Ray cluster is there ({first}); begin one (ray start --head), set its token here "
            "(RAY_AUTH_MODE=token), or leave --address out"
        ) from error
    return address is None


def _reach(address: str | None) -> None:
    """Nothing, if somebody listens at HOST:PORT: Ray itself tries for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _told(error: Any) -> BaseException:
    """What was raised in a worker, in its own words where they are for people."""
    cause = getattr(error, "cause", None)
    return (
        cause
        if isinstance(cause, UsageError)
        else UsageError(f"a worker of the cluster failed: {error}; repair it, and repeat the command")
    )


def said(resources: Mapping[str, float]) -> str:
    """GPUs and cores in words."""
    known = {name: resources[name] for name in ("GPU", "CPU") if resources.get(name)}
    return ", ".join(f"{count:g} {name}" for name, count in known.items()) or "nothing"
